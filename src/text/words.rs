//! A line as words, with quotes: inline requests, redis.conf, redis-cli.

use std::ops::Range;

/// Splits a line into words the way a shell does: blanks separate,
/// double quotes take escapes (`\n`, `\xHH`, ...), single quotes take `\'` only. `None` if quotes
/// do not match or text follows a closing quote directly.
#[must_use]
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|b| is_space(**b)).count();
        rest = &rest[blanks..];
        // C strings end at a NUL, and Redis splits them as such.
        if rest.first().is_none_or(|b| *b == 0) {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = split_word(rest, &mut word)?;
        words.push(word);
    }
}

/// Where the words of a line lie that [`split`] would return, if there is no quote in it: then they
/// stand there as they are meant.
#[must_use]
pub fn split_plain(line: &[u8]) -> Option<impl Iterator<Item = Range<usize>>> {
    if memchr::memchr2(b'"', b'\'', line).is_some() {
        return None;
    }
    let mut at = 0;
    Some(std::iter::from_fn(move || {
        let rest = &line[at..];
        let start = at + rest.iter().position(|b| !is_space(*b))?;
        let word = &line[start..];
        let len = word.iter().position(|b| ends_word(*b)).unwrap_or(word.len());
        // Where a NUL stands the line ends.
        at = start + len;
        (len > 0).then_some(start..at)
    }))
}

/// A word in double quotes, with escapes for what is not printable ASCII: [`split`] gives it back.
#[must_use]
pub fn quote(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len() + 2);
    out.push(b'"');
    for &byte in word {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            7 => out.extend(b"\\a"),
            8 => out.extend(b"\\b"),
            b' '..=b'~' => out.push(byte),
            other => out.extend(format!("\\x{other:02x}").bytes()),
        }
    }
    out.push(b'"');
    out
}

fn split_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            // Fewer bytes end a word than may stand between two.
            [b, ..] if ends_word(*b) => return Some(rest),
            [] => return Some(rest),
            [b'"', tail @ ..] => return closing(double_quoted(tail, word)?),
            [b'\'', tail @ ..] => return closing(single_quoted(tail, word)?),
            [b, tail @ ..] => {
                word.push(*b);
                rest = tail;
            }
        }
    }
}

/// What follows a closing quote must be a blank or nothing.
fn closing(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(|b| is_space(*b) || *b == 0).then_some(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [b'\\', b'x', h, l, tail @ ..] if h.is_ascii_hexdigit() && l.is_ascii_hexdigit() => {
                (hex_digit(*h) << 4 | hex_digit(*l), tail)
            }
            [b'\\', escaped, tail @ ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                };
                (byte, tail)
            }
            [b'"', tail @ ..] => return Some(tail),
            [] | [0, ..] => return None,
            [b, tail @ ..] => (*b, tail),
        };
        word.push(byte);
        rest = tail;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return Some(tail),
            [] | [0, ..] => return None,
            [b, tail @ ..] => {
                word.push(*b);
                rest = tail;
            }
        }
    }
}

fn hex_digit(b: u8) -> u8 {
    match b {
        b'0'..=b'9' => b - b'0',
        b'a'..=b'f' => b - b'a' + 10,
        _ => b - b'A' + 10,
    }
}

fn ends_word(b: u8) -> bool {
    matches!(b, 0 | b' ' | b'\t' | b'\n' | b'\r')
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_as_redis_splits_them() {
        let words = |line: &str| {
            let words = split(line.as_bytes())?;
            Some(words.into_iter().map(|w| String::from_utf8(w).unwrap()).collect::<Vec<_>>())
        };
        let some = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(words(""), some(&[]));
        assert_eq!(words(" \t a  b\x0bc \x0b"), some(&["a", "b\x0bc"]));
        assert_eq!(words(r#"a "" ''"#), some(&["a", "", ""]));
        assert_eq!(words(r#""a b" 'c d'"#), some(&["a b", "c d"]));
        assert_eq!(words(r#""\x41\n\r\t\b\a\"\\\q""#), some(&["A\n\r\t\x08\x07\"\\q"]));
        assert_eq!(words(r#""\x4" "\xzz""#), some(&["x4", "xzz"]));
        assert_eq!(words(r"'\n\'\\ '"), some(&[r"\n'\\ "]));
        assert_eq!(words(r#"a\n b"#), some(&[r"a\n", "b"]));
        assert_eq!(words(r#"foo"bar" x"#), some(&["foobar", "x"]));
        assert_eq!(words(r#""a"b"#), None);
        assert_eq!(words(r#"'a'b"#), None);
        assert_eq!(words(r#""a"#), None);
        assert_eq!(words(r#"'a"#), None);
        assert_eq!(words(r#""a\"#), None);
    }

    #[test]
    fn a_line_with_a_quote_is_not_plain() {
        for line in [&b"a \"b\""[..], b"it's", b"a\0'"] {
            assert!(split_plain(line).is_none(), "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn plain_lines_are_split_alike_where_they_stand(
            line in proptest::collection::vec(
                prop_oneof![Just(b'a'), Just(b'Z'), Just(0xff), Just(0), Just(b' '), Just(b'\t'),
                    Just(b'\r'), Just(b'\n'), Just(0x0b), Just(0x0c)],
                0..20,
            ),
        ) {
            let plain = split_plain(&line).map(|words| {
                words.map(|word| line[word].to_vec()).collect::<Vec<_>>()
            });
            prop_assert_eq!(plain, split(&line));
        }

        #[test]
        fn what_is_quoted_is_split_into_itself(word in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(split(&quote(&word)), Some(vec![word]));
        }

        #[test]
        fn splitting_never_panics_and_gives_back_what_was_quoted(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 0..5),
            line in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            // The answer does not matter here, only that there is one.
            let _ = split(&line);
            let mut quoted = Vec::new();
            for word in &words {
                let escaped = word.iter().map(|b| format!("\\x{b:02x}")).collect::<String>();
                quoted.extend(format!(" \"{escaped}\"").into_bytes());
            }
            prop_assert_eq!(split(&quoted), Some(words));
        }
    }
}
