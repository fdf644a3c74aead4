//! What `COMMAND DOCS` tells of a row, its arguments above all.
//!
//! A row notes its arguments in a line of items, a blank apart:
//!
//! | item | stands for |
//! | --- | --- |
//! | `key` | an argument by its name; `key` is of the type key, all others are strings |
//! | `seconds:int` | one of another type: `int`, `double`, `pattern`, `time`, `key`, `string` |
//! | `NX`, `ALPHA#sorting` | a word that stands for itself, named in lower case or behind the `#` |
//! | `EX=seconds:int` | a word, and an argument behind it |
//! | `condition(NX\|XX)` | one of several items |
//! | `pair(key value)` | several items together |
//! | `GET@6.2.0` | an item that there is since that version |
//! | `ip:port!2.8.12` | an item that should not be used any more since that version |
//! | `key...` | one or more times; with a word ahead, that stands once |
//! | `[COUNT=count:int]` | may be left out |
//! | `[GET=pattern]...` | one or more times, each with its word |

use crate::engine::command::{Command, Doc};
use crate::resp::reply::Reply;
use std::ops::Range;

/// One command's name and what it is for, with its subcommands.
pub fn write_command(reply: &mut Reply<'_>, command: Command) {
    let Command { spec, .. } = command;
    let Doc { group, since, complexity, summary, arguments, history, deprecated, is_system } =
        spec.doc;
    reply.bulk(command.full_name().as_bytes());
    let arguments = parse(arguments);
    let is_flagged = deprecated.is_some() || is_system;
    let optional = [
        !complexity.is_empty(),
        is_flagged,
        deprecated.is_some(),
        deprecated.is_some(),
        !history.is_empty(),
        !arguments.is_empty(),
        !spec.subcommands.is_empty(),
    ];
    reply.map(3 + optional.iter().filter(|is_there| **is_there).count());
    pair(reply, "summary", summary);
    pair(reply, "since", since);
    pair(reply, "group", group);
    if !complexity.is_empty() {
        pair(reply, "complexity", complexity);
    }
    if is_flagged {
        reply.bulk(b"doc_flags");
        reply.set(usize::from(deprecated.is_some()) + usize::from(is_system));
        if deprecated.is_some() {
            reply.simple(b"deprecated");
        }
        if is_system {
            reply.simple(b"syscmd");
        }
    }
    if let Some((since, replaced_by)) = deprecated {
        pair(reply, "deprecated_since", since);
        pair(reply, "replaced_by", replaced_by);
    }
    if !history.is_empty() {
        reply.bulk(b"history");
        reply.set(history.len());
        for (version, change) in history {
            reply.array(2);
            reply.bulk(version.as_bytes());
            reply.bulk(change.as_bytes());
        }
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        write_arguments(reply, &arguments, &mut (0..spec.keys.len()));
    }
    if !spec.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(spec.subcommands.len());
        command.subcommands().for_each(|sub| write_command(reply, sub));
    }
}

fn pair(reply: &mut Reply<'_>, name: &str, text: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(text.as_bytes());
}

/// `specs` are the key specifications of the row that no argument had yet: each argument that is a
/// key has the next one, and what is more than there are has the last.
fn write_arguments(reply: &mut Reply<'_>, arguments: &[Argument<'_>], specs: &mut Range<usize>) {
    reply.array(arguments.len());
    for argument in arguments {
        let Argument { name, kind, token, since, deprecated_since, of, .. } = argument;
        let Argument { optional, multiple, repeats_token, .. } = argument;
        let flags = [
            (*optional, "optional"),
            (*multiple || *repeats_token, "multiple"),
            (*repeats_token, "multiple_token"),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        let is_key = *kind == "key";
        let fields = [
            is_key,
            !token.is_empty(),
            !since.is_empty(),
            !deprecated_since.is_empty(),
            flags.clone().count() > 0,
        ];
        let fields = fields.iter().filter(|is_there| **is_there).count();
        reply.map(2 + fields + usize::from(!of.is_empty()));
        pair(reply, "name", name);
        pair(reply, "type", kind);
        if is_key {
            reply.bulk(b"key_spec_index");
            reply.count(specs.start);
            if specs.len() > 1 {
                specs.start += 1;
            }
        }
        if !token.is_empty() {
            pair(reply, "token", token);
        }
        if !since.is_empty() {
            pair(reply, "since", since);
        }
        if !deprecated_since.is_empty() {
            pair(reply, "deprecated_since", deprecated_since);
        }
        if flags.clone().count() > 0 {
            reply.bulk(b"flags");
            reply.set(flags.clone().count());
            flags.for_each(|(_, flag)| reply.simple(flag.as_bytes()));
        }
        if !of.is_empty() {
            reply.bulk(b"arguments");
            write_arguments(reply, of, specs);
        }
    }
}

/// One argument, or a group of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Argument<'a> {
    name: String,
    /// Redis's name of the type.
    kind: &'static str,
    /// The word ahead of it, or it itself; empty if there is none.
    token: &'a str,
    /// Empty if it is as old as the command.
    since: &'a str,
    /// Empty if it is fit for use.
    deprecated_since: &'a str,
    optional: bool,
    multiple: bool,
    repeats_token: bool,
    of: Vec<Argument<'a>>,
}

/// Reads a line of items.
fn parse(line: &str) -> Vec<Argument<'_>> {
    split(line, ' ').into_iter().map(parse_item).collect()
}

/// Splits where `separator` stands outside of all brackets; nothing gives no parts.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ if letter == separator && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn parse_item(text: &str) -> Argument<'_> {
    let (text, multiple) = match text.strip_suffix("...") {
        Some(text) => (text, true),
        None => (text, false),
    };
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let inner = parse_item(inner);
        return Argument { optional: true, repeats_token: multiple, ..inner };
    }
    let mut argument = Argument { multiple, ..Argument::default() };
    let text = match text.rsplit_once('@') {
        Some((text, since)) if !since.contains([')', ']']) => {
            argument.since = since;
            text
        }
        _ => text,
    };
    let text = match text.rsplit_once('!') {
        Some((text, since)) if !since.contains([')', ']']) => {
            argument.deprecated_since = since;
            text
        }
        _ => text,
    };
    let text = match text.split_once('=') {
        Some((token, text)) if is_word(token) => {
            argument.token = token;
            text
        }
        _ => text,
    };
    if let Some((name, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        argument.name = name.to_owned();
        let alternatives = split(inner, '|');
        argument.kind = if alternatives.len() > 1 { "oneof" } else { "block" };
        argument.of = match alternatives.as_slice() {
            [_] => parse(inner),
            alternatives => alternatives.iter().map(|text| parse_item(text)).collect(),
        };
        return argument;
    }
    let (word, name) = text.split_once('#').unwrap_or((text, ""));
    if argument.token.is_empty() && is_word(word) {
        argument.kind = "pure-token";
        argument.token = word;
        argument.name = if name.is_empty() { word.to_ascii_lowercase() } else { name.to_owned() };
        return argument;
    }
    let typed = text.rsplit_once(':').and_then(|(name, kind)| Some((name, type_named(kind)?)));
    let (name, kind) = typed.unwrap_or((text, if text == "key" { "key" } else { "string" }));
    argument.name = name.to_owned();
    argument.kind = kind;
    argument
}

/// Whether it is one that a user types as it is.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|letter: char| letter.is_ascii_lowercase() || letter == '(')
}

fn type_named(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "int" => "integer",
        "double" => "double",
        "pattern" => "pattern",
        "time" => "unix-time",
        "key" => "key",
        "string" => "string",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::CommandSpec;

    /// An argument as the notation would have it, but always in full.
    fn show(argument: &Argument<'_>) -> String {
        let Argument { name, kind, token, since, deprecated_since, of, .. } = argument;
        let Argument { optional, multiple, repeats_token, .. } = argument;
        let mut text = format!("{name}:{kind}");
        for (label, value) in [("token", *token), ("since", *since), ("until", *deprecated_since)] {
            if !value.is_empty() {
                text.push_str(&format!(" {label}={value}"));
            }
        }
        for (label, is_set) in
            [("optional", optional), ("multiple", multiple), ("each", repeats_token)]
        {
            if *is_set {
                text.push_str(&format!(" {label}"));
            }
        }
        if !of.is_empty() {
            text.push_str(&format!(" {{{}}}", of.iter().map(show).collect::<Vec<_>>().join(", ")));
        }
        text
    }

    #[test]
    fn the_notation_is_read() {
        for (line, shown) in [
            ("key", "key:key"),
            ("key:string", "key:string"),
            ("ip:port", "ip:port:string"),
            ("seconds:int", "seconds:integer"),
            ("seconds:int!2.8.12", "seconds:integer until=2.8.12"),
            ("[ID=id:int@2.8.12...]", "id:integer token=ID since=2.8.12 optional multiple"),
            ("[GET@6.2.0]", "get:pure-token token=GET since=6.2.0 optional"),
            ("[ALPHA#sorting]", "sorting:pure-token token=ALPHA optional"),
            ("[EX=seconds:int@2.6.12]", "seconds:integer token=EX since=2.6.12 optional"),
            ("key...", "key:key multiple"),
            ("[KEYS=key...]", "key:key token=KEYS optional multiple"),
            ("[GET=pattern:pattern]...", "pattern:pattern token=GET optional each"),
            ("p(key value)...", "p:block multiple {key:key, value:string}"),
            ("p(key)", "p:block {key:key}"),
            (
                "[c(NX|XX@3.0.0)@2.0.0]",
                "c:oneof since=2.0.0 optional {nx:pure-token token=NX, xx:pure-token token=XX \
                 since=3.0.0}",
            ),
            (
                "[LIMIT=l(offset:int count:int)]",
                "l:block token=LIMIT optional {offset:integer, count:integer}",
            ),
            (
                "a(x(NO ONE)|y)",
                "a:oneof {x:block {no:pure-token token=NO, one:pure-token token=ONE}, \
                                y:string}",
            ),
        ] {
            let read: Vec<String> = parse(line).iter().map(show).collect();
            assert_eq!(read, [shown], "{line}");
        }
        assert_eq!(parse(""), []);
        assert_eq!(parse("key [GET] value").len(), 3);
    }

    /// What a row without one would leave redis-cli's user alone with.
    #[test]
    fn every_row_says_what_it_is_for() {
        fn check(container: &str, spec: &CommandSpec) {
            let name = format!("{container}{}", spec.name);
            let doc = spec.doc;
            assert!(!doc.group.is_empty() && !doc.since.is_empty(), "{name}");
            assert!(doc.summary.ends_with('.'), "{name}");
            let is_dated = |version: &str| version.split('.').all(|n| n.parse::<u8>().is_ok());
            for (version, change) in doc.history {
                assert!(is_dated(version) && change.ends_with('.'), "{name}: {change}");
            }
            assert!(doc.history.is_sorted_by_key(|(version, _)| *version), "{name}");
            let balanced = |open, shut| {
                doc.arguments.matches(open).count() == doc.arguments.matches(shut).count()
            };
            assert!(balanced('(', ')') && balanced('[', ']'), "{name}: {}", doc.arguments);
            // What is left of an item in a name has not been read: its parts stand in one order.
            parse(doc.arguments).iter().for_each(|argument| check_names(&name, argument));
            spec.subcommands.iter().for_each(|sub| check(&format!("{name}|"), sub));
        }
        fn check_names(row: &str, argument: &Argument<'_>) {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_:/".contains(c);
            assert!(argument.name.chars().all(is_plain), "{row}: {argument:?}");
            argument.of.iter().for_each(|inner| check_names(row, inner));
        }
        for row in crate::commands::table().rows() {
            check("", row);
        }
    }
}
