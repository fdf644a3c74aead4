//! Which files an `include` line names.
//!
//! The patterns are those of the shell: `*`, `?` and `[a-z]` stand for characters of one name
//! between slashes, and a leading dot must be written out.

use std::io;
use std::path::{Path, PathBuf};

/// Whether `path` has a character that makes it a pattern.
pub(super) fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|b| b"*?[".contains(b))
}

/// The paths that `pattern` matches, in order of their bytes. A directory that cannot be read
/// matches nothing, as a directory that is not there.
pub(super) fn expand(pattern: &[u8]) -> Vec<PathBuf> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let root = if pattern.starts_with(b"/") { "/" } else { "" };
    let mut found = vec![PathBuf::from(root)];
    for part in pattern.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
        found = if is_pattern(part) {
            found.iter().flat_map(|dir| names_matching(dir, part).unwrap_or_default()).collect()
        } else {
            found.iter().map(|dir| dir.join(OsStr::from_bytes(part))).collect()
        };
    }
    found.retain(|path| path.exists());
    found.sort();
    found
}

fn names_matching(dir: &Path, pattern: &[u8]) -> io::Result<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStrExt;

    let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(listed)? {
        let name = entry?.file_name();
        if name_matches(pattern, name.as_bytes()) {
            found.push(dir.join(name));
        }
    }
    Ok(found)
}

fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    (name.first() != Some(&b'.') || pattern.first() == Some(&b'.')) && matches(pattern, name)
}

/// Whether `pattern` matches the whole of `name`. Without recursion: on a mismatch the last `*` takes one byte more.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (pattern, name);
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(rest) = p.strip_prefix(b"*") {
            last_star = Some((rest, n));
            p = rest;
            continue;
        }
        let step = match n.first() {
            None if p.is_empty() => return true,
            None => None,
            Some(&b) => match_one(p, b).map(|rest| (rest, &n[1..])),
        };
        (p, n) = match (step, last_star) {
            (Some(next), _) => next,
            (None, Some((behind_star, from))) if !from.is_empty() => {
                last_star = Some((behind_star, &from[1..]));
                (behind_star, &from[1..])
            }
            (None, _) => return false,
        };
    }
}

/// Matches the byte `b` with the head of `pattern`, which is no `*`, and returns what follows it.
fn match_one(pattern: &[u8], b: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'\\', literal, rest @ ..] => (*literal == b).then_some(rest),
        [b'[', rest @ ..] => match_class(rest, b).unwrap_or((b == b'[').then_some(rest)),
        [literal, rest @ ..] => (*literal == b).then_some(rest),
    }
}

/// Matches `b` with the class whose text, behind the bracket, `text` begins with. None where the
/// bracket is never closed, and so is a character as any other.
fn match_class(text: &[u8], b: u8) -> Option<Option<&[u8]>> {
    let (negated, body) = match text {
        [b'!' | b'^', body @ ..] => (true, body),
        _ => (false, text),
    };
    // A bracket that comes first stands for itself.
    let close = 1 + body.iter().skip(1).position(|&c| c == b']')?;
    let (mut class, rest) = (&body[..close], &body[close + 1..]);
    let mut within = false;
    while let Some((&low, behind)) = class.split_first() {
        match behind {
            [b'-', high, behind @ ..] => {
                within |= (low..=*high).contains(&b);
                class = behind;
            }
            _ => {
                within |= low == b;
                class = behind;
            }
        }
    }
    Some((within != negated).then_some(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_as_the_shell_does() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            (".*", ".conf", true),
            ("*.conf", "a.confx", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyybz", false),
            ("?", "", false),
            ("?", "a", true),
            ("[a-c]1", "b1", true),
            ("[a-c]1", "d1", false),
            ("[!a-c]1", "d1", true),
            ("[]]", "]", true),
            ("[", "[", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("**", "", true),
        ] {
            assert_eq!(
                name_matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn patterns_expand_within_several_parts_of_a_path_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b1/x.conf", "a1/y.conf", "a1/z.txt", "c/x.conf"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let pattern = format!("{}/?1/*.conf", dir.path().display());
        let expected = [dir.path().join("a1/y.conf"), dir.path().join("b1/x.conf")];
        assert_eq!(expand(pattern.as_bytes()), expected);
        let nowhere = format!("{}/nowhere/*.conf", dir.path().display());
        assert_eq!(expand(nowhere.as_bytes()), Vec::<PathBuf>::new());
    }
}
