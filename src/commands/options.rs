//! What several families read from their arguments in the same way.

use crate::engine::error::CommandError;
use crate::sys::clock::UnixMs;
use crate::text::number;

/// Whether `arg` is the option `word`, in any case. Like C, which compares options up to a zero
/// byte, it does not look beyond one.
#[inline]
pub fn is(arg: &[u8], word: &str) -> bool {
    match arg.split_at_checked(word.len()) {
        Some((head, tail)) => {
            head.eq_ignore_ascii_case(word.as_bytes()) && tail.first().is_none_or(|b| *b == 0)
        }
        None => false,
    }
}

/// What C's `%s` prints of an argument: all before a zero byte.
pub fn c_text(arg: &[u8]) -> &[u8] {
    arg.get(..memchr::memchr(0, arg).unwrap_or(arg.len())).unwrap_or(arg)
}

/// A 64-bit integer in canonical decimal text.
///
/// # Errors
/// `ERR value is not an integer or out of range`.
pub fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    number::parse_i64(arg).ok_or(CommandError::NOT_AN_INTEGER)
}

/// How long to wait, in milliseconds; 0 is a time like any other here.
///
/// # Errors
/// `ERR timeout is not an integer or out of range`, `ERR timeout is negative`.
pub fn timeout_ms(arg: &[u8]) -> Result<u64, CommandError> {
    const NOT_A_TIMEOUT: CommandError =
        CommandError::new("ERR timeout is not an integer or out of range");
    const NEGATIVE_TIMEOUT: CommandError = CommandError::new("ERR timeout is negative");
    let timeout_ms = number::parse_i64(arg).ok_or(NOT_A_TIMEOUT)?;
    u64::try_from(timeout_ms).map_err(|_| NEGATIVE_TIMEOUT)
}

/// What Redis answers where a subcommand takes no more arguments than it was given.
pub fn too_many_arguments(container: &str, sub: &[u8]) -> CommandError {
    let sub = c_text(sub.get(..128).unwrap_or(sub));
    let foot = format!("'. Try {container} HELP.");
    let head = b"ERR unknown subcommand or wrong number of arguments for '";
    CommandError::owned([head, sub, foot.as_bytes()].concat())
}

/// The error for a time that is not after 1970, or later than can be told.
pub fn invalid_expire_time(command: &str) -> CommandError {
    CommandError::owned(format!("ERR invalid expire time in '{command}' command"))
}

/// How an argument tells a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeForm {
    /// Milliseconds in the unit: 1000 or 1.
    pub unit_ms: i64,
    /// Counted from now, else from 1970.
    pub relative: bool,
}

impl TimeForm {
    /// `EX`, `EXPIRE`: seconds from now.
    pub const SECONDS_FROM_NOW: TimeForm = TimeForm { unit_ms: 1000, relative: true };
    /// `PX`, `PEXPIRE`: milliseconds from now.
    pub const MS_FROM_NOW: TimeForm = TimeForm { unit_ms: 1, relative: true };
    /// `EXAT`, `EXPIREAT`: seconds since 1970.
    pub const UNIX_SECONDS: TimeForm = TimeForm { unit_ms: 1000, relative: false };
    /// `PXAT`, `PEXPIREAT`: milliseconds since 1970, as the log has it.
    pub const UNIX_MS: TimeForm = TimeForm { unit_ms: 1, relative: false };

    /// The form that SET's and GETEX's option stands for.
    pub fn from_option(arg: &[u8]) -> Option<TimeForm> {
        const FORMS: [(&str, TimeForm); 4] = [
            ("EX", TimeForm::SECONDS_FROM_NOW),
            ("PX", TimeForm::MS_FROM_NOW),
            ("EXAT", TimeForm::UNIX_SECONDS),
            ("PXAT", TimeForm::UNIX_MS),
        ];
        FORMS.iter().find(|(word, _)| is(arg, word)).map(|(_, form)| *form)
    }

    /// The moment that `count` stands for, which may lie before 1970; `None` if it cannot be told
    /// in milliseconds.
    pub fn moment(self, count: i64, now: UnixMs) -> Option<UnixMs> {
        let ms = count.checked_mul(self.unit_ms)?;
        let ms = if self.relative { ms.checked_add(now.0)? } else { ms };
        Some(UnixMs(ms))
    }

    /// The moment that `arg` stands for where only a positive number will do.
    ///
    /// # Errors
    /// If it is no integer, or not positive, or too large.
    pub fn positive(self, arg: &[u8], now: UnixMs, command: &str) -> Result<UnixMs, CommandError> {
        let count = integer(arg)?;
        let moment = if count > 0 { self.moment(count, now) } else { None };
        moment.ok_or_else(|| invalid_expire_time(command))
    }
}

/// `ON` or `OFF`.
pub fn on_off(arg: &[u8]) -> Result<bool, CommandError> {
    match arg {
        on if is(on, "on") => Ok(true),
        off if is(off, "off") => Ok(false),
        _ => Err(CommandError::SYNTAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_compared_as_c_strings() {
        for (arg, same) in [
            (&b"EX"[..], true),
            (b"ex", true),
            (b"eX\0anything", true),
            (b"e", false),
            (b"exa", false),
            (b"", false),
            (b"\0ex", false),
        ] {
            assert_eq!(is(arg, "EX"), same, "{}", arg.escape_ascii());
        }
    }

    #[test]
    fn moments_are_told_up_to_the_last_there_is() {
        let now = UnixMs(1_000);
        let max = i64::MAX;
        assert_eq!(TimeForm::UNIX_MS.moment(max, now), Some(UnixMs(max)));
        assert_eq!(TimeForm::MS_FROM_NOW.moment(max - 1_000, now), Some(UnixMs(max)));
        assert_eq!(TimeForm::MS_FROM_NOW.moment(max - 999, now), None);
        assert_eq!(TimeForm::UNIX_SECONDS.moment(max / 1000 + 1, now), None);
        assert_eq!(TimeForm::SECONDS_FROM_NOW.moment(-1, now), Some(UnixMs(0)));
        assert_eq!(TimeForm::MS_FROM_NOW.moment(i64::MIN, now), Some(UnixMs(i64::MIN + 1_000)));
    }
}
