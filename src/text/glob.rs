//! Glob patterns as Redis matches them, in KEYS, SCAN, CONFIG GET, PSUBSCRIBE and access rules.
//!
//! `*` stands for any bytes, `?` for one, `[a-z]` for one of a class (`[^a-z]` for one outside
//! it), and `\` takes the next byte as it is. Corners are Redis's own: an unterminated class ends
//! with the pattern, a lone `\` at the end is itself, a reversed range is turned round, bytes in
//! ranges are ordered as signed, an escape inside a class is exact even when case is ignored, and
//! no pattern but the empty one matches the empty text.

/// Whether `pattern` matches all of `text`; with `nocase`, ASCII letters match in either case.
///
/// Worst case O(pattern length × text length), usually O(text length); no recursion and no
/// allocation, so patterns may come from strangers.
#[must_use]
pub fn glob_match(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    // Everything but a star takes exactly one byte. So it is enough to come back to the last
    // star met and let it take one byte more: a match that gives more to an earlier star leaves
    // the rest of the pattern no text that this does not try as well.
    let (mut rest, mut unread) = (pattern, text);
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = rest {
            if after.is_empty() {
                return true;
            }
            rest = after;
            last_star = Some((after, unread));
            continue;
        }
        let advanced = match unread {
            [] if rest.is_empty() => return true,
            // Text is used up, and a longer star would only leave less of it.
            [] => return false,
            [byte, unread @ ..] => {
                match_one(rest, *byte, nocase).map(|after_one| (after_one, unread))
            }
        };
        (rest, unread) = match (advanced, last_star) {
            (Some(advanced), _) => advanced,
            (None, Some((after_star, [_, unread @ ..]))) => {
                last_star = Some((after_star, unread));
                (after_star, unread)
            }
            (None, _) => return false,
        };
    }
}

/// Matches `byte` against the first element of `pattern`, which does not begin with a star, and
/// returns the pattern behind that element; `None` if it does not match, or there is no element.
fn match_one(pattern: &[u8], byte: u8, nocase: bool) -> Option<&[u8]> {
    let (matched, rest) = match pattern {
        [] => (false, pattern),
        [b'?', rest @ ..] => (true, rest),
        [b'[', b'^', class @ ..] => {
            let (contained, rest) = match_class(class, byte, nocase);
            (!contained, rest)
        }
        [b'[', class @ ..] => match_class(class, byte, nocase),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (same(*literal, byte, nocase), rest),
    };
    matched.then_some(rest)
}

/// Whether `class`, the pattern behind `[` or `[^`, contains `byte`; and the pattern behind the
/// class's `]`, or its end when there is none.
fn match_class(mut class: &[u8], byte: u8, nocase: bool) -> (bool, &[u8]) {
    let mut contained = false;
    loop {
        let (member, rest) = match class {
            [] => return (contained, class),
            [b'\\', literal, rest @ ..] => (*literal == byte, rest),
            [b']', rest @ ..] => return (contained, rest),
            [first, b'-', last, rest @ ..] => (in_range(*first, *last, byte, nocase), rest),
            [literal, rest @ ..] => (same(*literal, byte, nocase), rest),
        };
        contained |= member;
        class = rest;
    }
}

fn same(a: u8, b: u8, nocase: bool) -> bool {
    if nocase { a.eq_ignore_ascii_case(&b) } else { a == b }
}

/// Whether `byte` lies between two ends, in the order that C's signed `char` gives on x86-64.
/// Reversed ends are swapped before, not after, case is dropped, as Redis does.
fn in_range(first: u8, last: u8, byte: u8, nocase: bool) -> bool {
    let fold = |byte: i8| if nocase { (byte as u8).to_ascii_lowercase() as i8 } else { byte };
    let (first, last) = (first as i8, last as i8);
    let (low, high) = if first > last { (last, first) } else { (first, last) };
    (fold(low)..=fold(high)).contains(&fold(byte as i8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        glob_match(pattern.as_bytes(), text.as_bytes(), false)
    }

    /// Each row agrees with what `KEYS pattern` of redis-server 7.0.15 found.
    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text) in [
            ("", ""),
            ("a", "a"),
            ("*", "a"),
            ("**", "abc"),
            ("a*", "a"),
            ("a**", "a"),
            ("*a", "a"),
            ("*a", "aaa"),
            ("a*c", "abcbc"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("[b-a]", "a"),
            ("[a-]", "^"),
            (r"\*", "*"),
            (r"\?", "?"),
            (r"\", r"\"),
            (r"a\", r"a\"),
            (r"\\", r"\"),
            (r"[\]]", "]"),
            (r"[\", r"\"),
            (r"[\-]", "-"),
            ("[a", "a"),
            ("[^", "a"),
            ("[^a", "b"),
            ("[a-", "-"),
            ("[a-z", "q"),
            ("[^]", "x"),
            ("*[a-z]*?", "9a9"),
        ] {
            assert!(matches(pattern, text), "{pattern:?} matches {text:?}");
        }
        for (pattern, text) in [
            ("*", ""),
            ("**", ""),
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("a?", "a"),
            ("a*b", "abc"),
            ("h[^e]llo", "hello"),
            ("[]", "a"),
            ("[]a]", "a"),
            ("[", "["),
            ("[", "a"),
            ("[^a", "a"),
            ("[b-a]", "c"),
            ("[a", "ab"),
            (r"\a\", "a"),
            ("A", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern:?} does not match {text:?}");
        }
    }

    #[test]
    fn case_is_ignored_for_ascii_letters_only() {
        let matches = |pattern: &[u8], text: &[u8]| glob_match(pattern, text, true);
        assert!(matches(b"MaX*", b"maxmemory"));
        assert!(matches(b"[A-C]", b"b"));
        assert!(matches(b"[b]", b"B"));
        assert!(!matches(br"[\b]", b"B"), "an escape in a class is exact");
        assert!(!matches(b"[Z-a]", b"z"), "the ends cross when they become lower case");
        assert!(!matches(b"\xc4", b"\xe4"));
    }

    #[test]
    fn bytes_in_ranges_are_signed() {
        assert!(glob_match(b"[a-\xff]", b"A", false));
        assert!(!glob_match(b"[a-\xff]", b"z", false));
        assert!(glob_match(b"[\x80-\xff]", b"\x90", false));
    }

    #[test]
    fn patterns_made_to_backtrack_stay_cheap() {
        let text = "a".repeat(50_000);
        assert!(!matches(&format!("{}b", "a*".repeat(1_000)), &text));
        assert!(!matches(&format!("{}b", "*?".repeat(1_000)), &text));
        assert!(matches(&"a*".repeat(1_000), &text));
    }

    /// The rule stated by recursion, without regard to cost.
    fn stated(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => {
                (0..=text.len()).any(|taken| stated(rest, &text[taken..], nocase))
            }
            (_, []) => false,
            (_, [byte, unread @ ..]) => {
                match_one(pattern, *byte, nocase).is_some_and(|rest| stated(rest, unread, nocase))
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn matching_is_what_the_rule_states(
            pattern in "[ab*?\\[\\]^\\\\-]{0,9}",
            text in "[abA\\]\\\\-]{1,8}",
            nocase: bool,
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(glob_match(pattern, text, nocase), stated(pattern, text, nocase));
        }

        #[test]
        fn arbitrary_bytes_never_panic(pattern: Vec<u8>, text: Vec<u8>, nocase: bool) {
            let _ = glob_match(&pattern, &text, nocase);
        }
    }
}
