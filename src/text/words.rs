//! A line as words, with quotes: inline requests, redis.conf, redis-cli.

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

fn split_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            // Fewer bytes end a word than may stand between two.
            [] | [0 | b' ' | b'\t' | b'\n' | b'\r', ..] => return Some(rest),
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

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}
