//! Taking over a log that Redis has written: a single file (Redis 6.2 and older), or a directory of
//! files with a manifest (Redis 7), into one file of this server's.
//!
//! - `manifest`: which files, in which order
//! - [`source`]: the files, opened and looked at before anything is written
//! - `convert`: their commands, checked and sealed, into the new file
//!
//! The records are streamed, not executed: memory is bounded by the largest command or transaction,
//! and the pace by reading and writing. Each command is checked for its form, and by the caller for
//! whether this server can replay it; what only executing shows is found when the server starts.
//! The source is never changed.

mod convert;
mod manifest;
pub mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;

pub use convert::{Cut, ImportOptions, ImportReport, Progress, import};
pub use source::Source;

use super::chain::Stop;
use super::damage::{Damage, Verdict};
use super::storage::describe;

/// Why a log was not imported. Nothing stands under the target's name then, and the source is as it
/// was.
#[derive(Debug)]
pub enum ImportError {
    /// A file cannot be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done, as in `Cannot read`.
        doing: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The path leads to nothing that can be imported.
    NoLog {
        /// The path.
        path: PathBuf,
        /// What is there instead, and what to give.
        why: String,
    },
    /// A manifest that Redis would refuse.
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// Line, counted from 1; 0 for the whole.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A manifest names a file that is not there.
    MissingFile {
        /// The file.
        path: PathBuf,
        /// The manifest.
        manifest: PathBuf,
    },
    /// A file begins with a binary head (`aof-use-rdb-preamble yes`).
    RdbPreamble {
        /// The file.
        path: PathBuf,
        /// The manifest that names it, if one does.
        manifest: Option<PathBuf>,
    },
    /// A command that this server cannot replay.
    Command {
        /// The file.
        path: PathBuf,
        /// File offset of the command.
        offset: u64,
        /// What is wrong with it, such as `Unknown command 'foo'`.
        message: String,
    },
    /// A file is damaged where nothing may be left out, or ends too early and cutting was not
    /// allowed.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what it means.
        damage: Box<Damage>,
        /// Whether the file is the last one: only there may an end be missing.
        is_last: bool,
    },
    /// A source file changed while it was read.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Whoever asked for the import has broken it off.
    Interrupted,
    /// There is a log already where the imported one should go.
    TargetExists {
        /// The log.
        path: PathBuf,
    },
    /// The new log is complete and bears its name, but the name may not outlive a power cut.
    NameNotDurable {
        /// The new log.
        path: PathBuf,
        /// Why syncing the directory failed.
        error: io::Error,
    },
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Io { path, doing, error } => {
                write!(f, "Cannot {doing} {}: {}", path.display(), describe(error))
            }
            ImportError::NoLog { path, why } => {
                write!(f, "There is no log to import at {}: {why}", path.display())
            }
            ImportError::BadManifest { path, line: 0, reason } => {
                write!(f, "Cannot read the manifest {}: {reason}", path.display())
            }
            ImportError::BadManifest { path, line, reason } => {
                write!(f, "Cannot read the manifest {}, line {line}: {reason}", path.display())
            }
            ImportError::MissingFile { path, manifest } => write!(
                f,
                "The manifest {} names {}, which is not there: what it held would be lost",
                manifest.display(),
                path.display()
            ),
            ImportError::RdbPreamble { path, manifest } => {
                write!(f, "The file {}", path.display())?;
                if let Some(manifest) = manifest {
                    write!(f, ", which the manifest {} names,", manifest.display())?;
                }
                f.write_str(
                    " begins with an RDB preamble, which this server does not read. On the Redis \
                     that wrote it, run 'redis-cli config set aof-use-rdb-preamble no' and \
                     'redis-cli bgrewriteaof', wait until 'redis-cli info persistence' says \
                     aof_rewrite_in_progress:0, stop it, and import again",
                )
            }
            ImportError::Command { path, offset, message } => {
                write!(f, "{message} in {} (at offset {offset})", path.display())
            }
            ImportError::Damaged { path, damage, is_last } => {
                write_damage(f, path, damage, *is_last)
            }
            ImportError::Changed { path } => write!(
                f,
                "{} changed while it was read: stop the server that writes it, or import a copy",
                path.display()
            ),
            ImportError::Interrupted => {
                f.write_str("Interrupted. What had been written was removed")
            }
            ImportError::TargetExists { path } => write!(
                f,
                "{} exists already and is not written over. Move it away, or name another one by \
                 --dir or --appendfilename",
                path.display()
            ),
            ImportError::NameNotDurable { path, error } => write!(
                f,
                "The imported log {} is complete, but its directory could not be synced: {}. After \
                 a power cut the file may be gone; keep the source and import again",
                path.display(),
                describe(error)
            ),
        }
    }
}

fn write_damage(
    f: &mut fmt::Formatter<'_>,
    path: &std::path::Path,
    damage: &Damage,
    is_last: bool,
) -> fmt::Result {
    let Damage { stop: Stop { at, reason, torn }, end, bytes, verdict, first_key } = damage;
    write!(
        f,
        "The file {} is good up to offset {end}: {reason} (at offset {at}), and {bytes} bytes stand \
         behind it.",
        path.display()
    )?;
    if let Some(key) = first_key {
        write!(f, " The first key affected is {key}.")?;
    }
    match verdict {
        Verdict::Promised { until } => write!(
            f,
            " A later seal that is intact shows that it had been durable up to offset {until}."
        )?,
        _ if *torn && is_last => {
            return f.write_str(
                " Redis would cut it there; with --aof-load-truncated yes the import leaves the \
                 rest out",
            );
        }
        _ if *torn => f.write_str(" Only the last file of a log may end early.")?,
        _ => {}
    }
    f.write_str(
        " Nothing was written. Import a copy of the log in which that file has been repaired \
         (server_async --check-aof FILE --fix writes what is good of one)",
    )
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImportError::Io { error, .. } | ImportError::NameNotDurable { error, .. } => {
                Some(error)
            }
            _ => None,
        }
    }
}
