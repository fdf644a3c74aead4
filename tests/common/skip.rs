//! What could not be tested here is said, never passed over in silence.

use std::io::Write;
use std::path::PathBuf;

/// Names a file to which one line is appended for each thing skipped. `scripts/test.sh` sets it,
/// since cargo swallows the output of tests that pass.
const SKIPS_FILE: &str = "SERVER_ASYNC_SKIPS_FILE";

/// Set to 1, a missing tool is a failure instead of a skip.
const REQUIRE: &str = "SERVER_ASYNC_REQUIRE_REFERENCE";

/// Says that `what` was not tested, and why.
pub fn skip(what: &str, reason: &str) {
    let line = format!("SKIPPED: {what}: {reason}\n");
    // Not by a macro: of tests that pass, cargo shows only what goes to the stream itself.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(SKIPS_FILE) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|error| panic!("cannot note a skip in {path:?}: {error}"));
    }
}

/// Says that `what` was not tested because something that can be installed is missing. Panics
/// instead where the environment promises that everything is there.
#[track_caller]
pub fn skip_unless_required(what: &str, reason: &str) {
    assert!(std::env::var(REQUIRE).as_deref() != Ok("1"), "{what}: {reason}");
    skip(what, reason);
}

/// The path of the program `tool`, or `None` after saying that `what` is skipped without it, as
/// [`skip_unless_required`] does.
pub fn skip_without(what: &str, tool: &str) -> Option<PathBuf> {
    let found = find_program(tool);
    if found.is_none() {
        skip_unless_required(what, &format!("{tool} not installed"));
    }
    found
}

/// Looks `tool` up in PATH, and in the places that a plain user's PATH lacks.
pub fn find_program(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file())
}
