//! A report for programs: one JSON object, whose fields keep their names and meanings. New ones
//! may be added. `docs/aof-format.md` lists them.

use std::fmt::{self, Write};

use super::{CheckReport, FurtherDamage};
use crate::persist::damage::{Damage, Verdict};

/// Shows a report as one line of JSON.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a>(pub &'a CheckReport);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let result = report.damage.as_ref().map_or("clean", |damage| kind(damage.verdict));
        write!(
            f,
            r#"{{"file":{},"result":"{result}","size_bytes":{},"good_bytes":{},"sealed":{}"#,
            Text(&report.path.to_string_lossy()),
            report.total_bytes,
            report.end,
            report.seals > 0
        )?;
        let generation = report.generation.as_deref().map(Text);
        write!(
            f,
            r#","generation":{},"base_end":{},"commands":{},"unsealed_commands":{}"#,
            Nullable(generation),
            Nullable(report.base_end),
            report.commands,
            report.unsealed_commands
        )?;
        write!(
            f,
            r#","transactions":{},"groups":{},"header_time_ms":{},"first_seal_time_ms":{}"#,
            report.transactions,
            report.seals,
            Nullable(report.first_ms),
            Nullable(report.first_seal_ms)
        )?;
        write!(
            f,
            r#","last_seal_time_ms":{},"durable_until":{},"closed_in_order":{},"damage":"#,
            Nullable(report.last_ms),
            Nullable(report.durable),
            report.closed
        )?;
        write!(f, "{}", Nullable(report.damage.as_ref().map(DamageJson)))?;
        let groups: u64 = report.intact.iter().map(|stretch| stretch.groups).sum();
        let commands: u64 = report.intact.iter().map(|stretch| stretch.commands).sum();
        write!(f, r#","intact_groups_behind":{groups},"intact_commands_behind":{commands}"#)?;
        f.write_str(r#","further_damage":["#)?;
        for (index, FurtherDamage { from, end, promised }) in
            report.further_damage().iter().enumerate()
        {
            let comma = if index == 0 { "" } else { "," };
            write!(f, r#"{comma}{{"from":{from},"to":{end},"promised":{promised}}}"#)?;
        }
        f.write_str("]}")
    }
}

/// What a start makes of it.
fn kind(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Promised { .. } | Verdict::BadUnsealed => "refused",
        Verdict::NeverPromised | Verdict::TornUnsealed => "cut",
    }
}

struct DamageJson<'a>(&'a Damage);

impl fmt::Display for DamageJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { stop, end, bytes, verdict, first_key } = self.0;
        let promised_until = match verdict {
            Verdict::Promised { until } => Some(until),
            Verdict::NeverPromised | Verdict::TornUnsealed | Verdict::BadUnsealed => None,
        };
        let sealed = match verdict {
            Verdict::Promised { .. } | Verdict::NeverPromised => "true",
            Verdict::TornUnsealed | Verdict::BadUnsealed => "false",
        };
        write!(
            f,
            r#"{{"offset":{},"reason":{},"kind":"{}","sealed":{sealed},"promised_until":{}"#,
            stop.at,
            Text(stop.reason),
            kind(*verdict),
            Nullable(promised_until)
        )?;
        write!(f, r#","good_until":{end},"lost_bytes":{bytes},"first_key":"#)?;
        match first_key {
            None => f.write_str("null}"),
            Some(key) => write!(
                f,
                r#"{{"key":{},"command":{},"offset":{}}}}}"#,
                Text(&key.key.escape_ascii().to_string()),
                Text(&key.command.escape_ascii().to_string()),
                key.offset
            ),
        }
    }
}

struct Nullable<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Nullable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// A JSON string.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                control if control < ' ' => write!(f, "\\u{:04x}", u32::from(control))?,
                other => f.write_char(other)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_whatever_they_hold() {
        let text = |text| Text(text).to_string();
        assert_eq!(text("a\"b\\c/é"), r#""a\"b\\c/é""#);
        assert_eq!(text("\n\u{1}"), r#""\u000a\u0001""#);
        assert_eq!(Nullable(Some(Text("x"))).to_string(), "\"x\"");
        assert_eq!(Nullable::<u64>(None).to_string(), "null");
    }
}
