//! Configuration files: redis.conf's syntax, `include`, and what is wrong with them.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::value::{Refusal, is_c_space};
use super::{Config, include, parameters};
use crate::text::words;

/// More than any configuration; stops a file that never ends, such as a device.
const FILE_MAX_BYTES: u64 = 64 << 20;

/// Files that may include each other in a chain; deeper is taken for a mistake.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Characters of an offending line that an error shows.
const SHOWN_MAX_CHARS: usize = 120;

/// Why the server cannot start with these flags and this file. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartupError {
    /// A flag is unknown or lacks its value, or there is a word too many.
    CommandLine(String),
    /// A flag's value is refused.
    Flag {
        /// The flag with its value, or alone where the value is secret.
        flag: String,
        /// Why.
        why: String,
    },
    /// A configuration file cannot be read.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A line of a configuration file is refused.
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, counted from 1.
        number: usize,
        /// The line, or its first word where the rest is secret.
        line: String,
        /// Why.
        why: String,
    },
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartupError::CommandLine(why) => write!(f, "{why}; --help lists the flags"),
            StartupError::Flag { flag, why } => write!(f, "Bad flag '{flag}': {why}"),
            StartupError::File { path, why } => {
                let path = printable(path.as_os_str().as_bytes());
                write!(f, "Fatal error, can't open config file '{path}': {why}")
            }
            StartupError::Line { path, number, line, why } => {
                let path = printable(path.as_os_str().as_bytes());
                write!(f, "Bad configuration in '{path}', at line {number}, '{line}': {why}")
            }
        }
    }
}

impl std::error::Error for StartupError {}

/// `text` fit for one line of a terminal: control characters escaped, what is long cut.
pub(super) fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == SHOWN_MAX_CHARS {
            shown.push_str("...");
            break;
        }
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Applies files and flags, one after the other, to a configuration: the last one wins.
#[derive(Default)]
pub(super) struct Loader {
    pub(super) config: Config,
    /// Whether a `save` line was met: the first replaces the default, the others add to it.
    save_seen: bool,
    /// The files that are being read, the innermost last.
    open: Vec<PathBuf>,
}

impl Loader {
    /// Reads the file at `path`, or standard input where that is `-`.
    pub(super) fn read_file(&mut self, path: &Path) -> Result<(), StartupError> {
        if path == Path::new("-") {
            let text = read_all(io::stdin().lock(), path)?;
            return self.read_text(&text, Path::new("(standard input)"));
        }
        let file = File::open(path).map_err(|e| unreadable(path, &e))?;
        let identity = path.canonicalize().map_err(|e| unreadable(path, &e))?;
        if self.open.contains(&identity) {
            let why = "it includes itself".to_owned();
            return Err(StartupError::File { path: path.to_owned(), why });
        }
        if self.open.len() == INCLUDE_DEPTH_MAX {
            let why = format!("more than {INCLUDE_DEPTH_MAX} files include each other");
            return Err(StartupError::File { path: path.to_owned(), why });
        }
        let text = read_all(file, path)?;
        self.open.push(identity);
        let read = self.read_text(&text, path);
        self.open.pop();
        read
    }

    fn read_text(&mut self, text: &[u8], path: &Path) -> Result<(), StartupError> {
        for (i, line) in text.split(|&b| b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            self.read_line(line).map_err(|error| match error {
                LineError::Nested(error) => error,
                LineError::Refused { why, shown } => StartupError::Line {
                    path: path.to_owned(),
                    number: i + 1,
                    line: printable(shown),
                    why: why.into_owned(),
                },
            })?;
        }
        Ok(())
    }

    fn read_line<'l>(&mut self, line: &'l [u8]) -> Result<(), LineError<'l>> {
        let is_name_byte = |b: &u8| !is_c_space(*b) && !b"\"'".contains(b);
        let first = line.split(|b| !is_name_byte(b)).find(|w| !w.is_empty()).unwrap_or_default();
        let sensitive = parameters::find(first).is_some_and(|(_, p)| p.is_sensitive());
        let shown = if sensitive { first } else { line };
        let refused = |why: Refusal| LineError::Refused { why, shown };
        if line.contains(&0) {
            return Err(refused("NUL byte in configuration line".into()));
        }
        let words = words::split(line)
            .ok_or_else(|| refused("Unbalanced quotes in configuration line".into()))?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let Some((name, words)) = words.split_first() else { return Ok(()) };
        if name.eq_ignore_ascii_case(b"include") && words.len() == 1 {
            return self.include(words[0]).map_err(LineError::Nested);
        }
        self.set(name, words).map_err(refused)
    }

    /// Reads the file, or the files that the pattern matches, possibly none.
    pub(super) fn include(&mut self, path: &[u8]) -> Result<(), StartupError> {
        if !include::is_pattern(path) {
            return self.read_file(Path::new(OsStr::from_bytes(path)));
        }
        include::expand(path).iter().try_for_each(|path| self.read_file(path))
    }

    /// Sets one parameter from the words behind its name.
    pub(super) fn set(&mut self, name: &[u8], words: &[&[u8]]) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"sentinel") {
            return Err("sentinel directive while not in sentinel mode".into());
        }
        let Some((_, parameter)) = parameters::find(name) else {
            return Err("Bad directive or wrong number of arguments".into());
        };
        // A single word with blanks in it is several: `save "3600 1"`.
        let several = parameter.kind.takes_several_words() && parameter.is_visible();
        let parted: Vec<&[u8]> = match words {
            &[word] if several && word.contains(&b' ') => {
                word.split(|&b| b == b' ').filter(|part| !part.is_empty()).collect()
            }
            words => words.to_vec(),
        };
        if parameter.name != "save" {
            return parameter.set_words(&mut self.config, &parted);
        }
        let before = if self.save_seen { parameter.show(&self.config) } else { Vec::new() };
        parameter.set_words(&mut self.config, &parted)?;
        self.save_seen = true;
        let all = [before, parameter.show(&self.config)];
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).filter(|s| !s.is_empty()).collect();
        parameter.set_text(&mut self.config, &all.join(&b' '))
    }

    /// From here on flags are set, which override what files said.
    pub(super) fn begin_flags(&mut self) {
        self.save_seen = false;
    }
}

/// What a line came to: an error of its own, or of a file that it includes.
enum LineError<'l> {
    Nested(StartupError),
    Refused { why: Refusal, shown: &'l [u8] },
}

fn read_all(source: impl Read, path: &Path) -> Result<Vec<u8>, StartupError> {
    let mut text = Vec::new();
    source.take(FILE_MAX_BYTES + 1).read_to_end(&mut text).map_err(|e| unreadable(path, &e))?;
    if text.len() as u64 > FILE_MAX_BYTES {
        let why = format!("larger than {FILE_MAX_BYTES} bytes");
        return Err(StartupError::File { path: path.to_owned(), why });
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> StartupError {
    let why = match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    };
    StartupError::File { path: path.to_owned(), why }
}
