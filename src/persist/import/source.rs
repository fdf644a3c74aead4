//! The files of a log to be imported: found, opened and looked at before anything is written.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::ImportError;
use super::manifest::{BadManifest, Manifest};
use crate::persist::format::MAX_COMMENT_BYTES;
use crate::persist::storage::{Directory, LogFile, Storage, read_full_at};

/// How a file with a binary head begins.
const RDB_MAGIC: &[u8] = b"REDIS";
/// How the name of a manifest ends.
const MANIFEST_SUFFIX: &str = ".manifest";
/// How Redis names a manifest that it is writing; what a crash leaves of one means nothing.
const TEMPORARY_PREFIX: &str = "temp-";
/// No manifest is longer: it has a line a file, and Redis keeps few.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// A log to be imported.
pub struct Source {
    /// In the order of their replay.
    pub(super) files: Vec<SourceFile>,
    manifest: Option<(PathBuf, Vec<u8>)>,
}

/// One file of it.
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn LogFile>,
    /// Its length when it was opened; what is appended meanwhile is not read.
    pub(super) bytes: u64,
    /// The latest that what it begins with can have been written, milliseconds since the Unix
    /// epoch, as far as files tell: when it was last modified, or what the first annotation in it
    /// or behind it says.
    pub(super) begun_ms: u64,
}

/// How many files an `appendonlydir` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisLog {
    /// Its manifest.
    pub manifest: PathBuf,
    /// The files that make up the log; `None` if the manifest cannot be read.
    pub files: Option<usize>,
}

/// The log of Redis 7 in `folder` whose append-only file is called `log_name`; `None` if there is
/// none, or one that names no file.
#[must_use]
pub fn find_redis_log(folder: &Path, log_name: &OsStr) -> Option<RedisLog> {
    let manifest = folder.join(manifest_name(log_name));
    match read_manifest(&manifest) {
        Ok((_, parsed)) => match parsed.files().count() {
            0 => None,
            count => Some(RedisLog { manifest, files: Some(count) }),
        },
        Err(ImportError::Io { error, .. })
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            None
        }
        // Whatever it is, somebody's data may depend on it.
        Err(_) => Some(RedisLog { manifest, files: None }),
    }
}

impl Source {
    /// Opens what `path` leads to: a file, a manifest, or a directory with a manifest. Where a
    /// directory has several, the one of the append-only file `log_name` is meant.
    ///
    /// # Errors
    /// [`ImportError`] if that is no log, if files are missing or cannot be read, and if one begins
    /// with an RDB preamble.
    pub fn open(path: &Path, log_name: &OsStr) -> Result<Source, ImportError> {
        let metadata = fs::metadata(path).map_err(reading(path))?;
        if metadata.is_dir() {
            return Source::from_manifest(&manifest_in(path, log_name)?);
        }
        if !metadata.is_file() {
            let why = "it is neither a regular file nor a directory".into();
            return Err(ImportError::NoLog { path: path.to_owned(), why });
        }
        if is_manifest(path).map_err(reading(path))? {
            return Source::from_manifest(path);
        }
        refuse_a_part(path)?;
        let (folder, name) = split(path)?;
        let storage = Directory::read_only(&folder).map_err(reading(&folder))?;
        let file = open_file(&storage, &folder, &name, None)?;
        Ok(Source { files: tell_times(vec![file]), manifest: None })
    }

    fn from_manifest(path: &Path) -> Result<Source, ImportError> {
        let (text, manifest) = read_manifest(path)?;
        let (folder, _) = split(path)?;
        let storage = Directory::read_only(&folder).map_err(reading(&folder))?;
        let files: Result<Vec<Opened>, ImportError> =
            manifest.files().map(|name| open_file(&storage, &folder, name, Some(path))).collect();
        let files = files?;
        if files.is_empty() {
            let why = "it names no file".into();
            return Err(ImportError::NoLog { path: path.to_owned(), why });
        }
        Ok(Source { files: tell_times(files), manifest: Some((path.to_owned(), text)) })
    }

    /// Bytes of all files.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Paths of the files, in the order of their replay.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Whether everything is as it was when it was opened, as far as lengths and the manifest tell.
    ///
    /// # Errors
    /// [`ImportError::Changed`], or [`ImportError::Io`] if that cannot be told.
    pub(super) fn check_unchanged(&self) -> Result<(), ImportError> {
        let changed = |path: &Path| ImportError::Changed { path: path.to_owned() };
        for SourceFile { path, file, bytes, .. } in &self.files {
            if file.size().map_err(reading(path))? != *bytes {
                return Err(changed(path));
            }
        }
        match &self.manifest {
            Some((path, text)) if read_manifest_text(path)? != *text => Err(changed(path)),
            _ => Ok(()),
        }
    }
}

fn reading(path: &Path) -> impl Fn(io::Error) -> ImportError {
    move |error| ImportError::Io { path: path.to_owned(), doing: "read", error }
}

/// `<log>.manifest`.
fn manifest_name(log_name: &OsStr) -> OsString {
    let mut name = log_name.to_owned();
    name.push(MANIFEST_SUFFIX);
    name
}

/// The folder and the name of a file.
fn split(path: &Path) -> Result<(PathBuf, OsString), ImportError> {
    let Some(name) = path.file_name() else {
        return Err(reading(path)(io::ErrorKind::InvalidInput.into()));
    };
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    Ok((folder.to_owned(), name.to_owned()))
}

/// By its name, or by how it begins: no append-only file begins so.
fn is_manifest(path: &Path) -> io::Result<bool> {
    if path.as_os_str().as_bytes().ends_with(MANIFEST_SUFFIX.as_bytes()) {
        return Ok(true);
    }
    let mut head = Vec::new();
    File::open(path)?.take(5).read_to_end(&mut head)?;
    Ok(head == b"file ")
}

/// The manifests in a directory, sorted.
fn manifests_in(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let bytes = name.as_bytes();
        if bytes.ends_with(MANIFEST_SUFFIX.as_bytes())
            && !bytes.starts_with(TEMPORARY_PREFIX.as_bytes())
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn manifest_in(folder: &Path, log_name: &OsStr) -> Result<PathBuf, ImportError> {
    let names = manifests_in(folder).map_err(reading(folder))?;
    let no_log = |why| ImportError::NoLog { path: folder.to_owned(), why };
    match names.as_slice() {
        [] => {
            let inner = folder.join("appendonlydir");
            Err(no_log(if inner.is_dir() {
                format!("the directory has no manifest. Give {}", inner.display())
            } else {
                "the directory has no manifest. Give the append-only file itself".into()
            }))
        }
        [only] => Ok(folder.join(only)),
        several => match several.iter().find(|name| **name == manifest_name(log_name)) {
            Some(name) => Ok(folder.join(name)),
            None => {
                let names: Vec<_> = several.iter().map(|name| name.display().to_string()).collect();
                Err(no_log(format!("it has several manifests, give one: {}", names.join(", "))))
            }
        },
    }
}

fn read_manifest_text(path: &Path) -> Result<Vec<u8>, ImportError> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(reading(path))?;
    file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut text).map_err(reading(path))?;
    if text.len() as u64 > MAX_MANIFEST_BYTES {
        let reason = "it is longer than any manifest";
        return Err(ImportError::BadManifest { path: path.to_owned(), line: 0, reason });
    }
    Ok(text)
}

fn read_manifest(path: &Path) -> Result<(Vec<u8>, Manifest), ImportError> {
    let text = read_manifest_text(path)?;
    let manifest = Manifest::parse(&text).map_err(|BadManifest { line, reason }| {
        ImportError::BadManifest { path: path.to_owned(), line, reason }
    })?;
    Ok((text, manifest))
}

/// One file out of a directory is not the log: taken alone it would silently be half of the data.
fn refuse_a_part(path: &Path) -> Result<(), ImportError> {
    let (folder, name) = split(path)?;
    for manifest in manifests_in(&folder).map_err(reading(&folder))? {
        let manifest = folder.join(manifest);
        // One that cannot be read says nothing about this file.
        let Ok((_, parsed)) = read_manifest(&manifest) else { continue };
        let is_named = parsed.files().any(|file| *file == name);
        if is_named && parsed.files().count() > 1 {
            let why = format!(
                "it is one of the files that {} names. Give that, or a copy elsewhere if it alone \
                 is meant",
                manifest.display()
            );
            return Err(ImportError::NoLog { path: path.to_owned(), why });
        }
    }
    Ok(())
}

/// A file, and what it tells of its age.
struct Opened {
    path: PathBuf,
    file: Arc<dyn LogFile>,
    bytes: u64,
    modified_ms: u64,
    /// What an annotation in the first line says.
    annotated_ms: Option<u64>,
}

fn open_file(
    storage: &Directory,
    folder: &Path,
    name: &OsStr,
    manifest: Option<&Path>,
) -> Result<Opened, ImportError> {
    let path = folder.join(name);
    let missing = |error: io::Error| match manifest {
        Some(manifest) if error.kind() == io::ErrorKind::NotFound => {
            ImportError::MissingFile { path: path.clone(), manifest: manifest.to_owned() }
        }
        _ => reading(&path)(error),
    };
    // Ahead of opening, which waits for a writer if it is a pipe.
    let metadata = fs::metadata(&path).map_err(missing)?;
    if !metadata.is_file() {
        let why = "it is not a regular file".into();
        return Err(ImportError::NoLog { path, why });
    }
    let file = storage.open(name).and_then(|file| file.ok_or(io::ErrorKind::NotFound.into()));
    let file = file.map_err(missing)?;
    let bytes = file.size().map_err(reading(&path))?;
    let mut head = [0; MAX_COMMENT_BYTES];
    let read = read_full_at(&*file, &mut head, 0).map_err(reading(&path))?;
    let head = head.get(..read).unwrap_or(&[]);
    if head.starts_with(RDB_MAGIC) {
        return Err(ImportError::RdbPreamble { path, manifest: manifest.map(Path::to_owned) });
    }
    let first_line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let annotated_ms = annotated_ms(first_line);
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let modified_ms = modified.map_or(u64::MAX, |since| since.as_millis() as u64);
    Ok(Opened { path, file, bytes, modified_ms, annotated_ms })
}

/// The latest moment that an annotation of Redis, `#TS:<seconds since 1970>`, means, milliseconds.
pub(super) fn annotated_ms(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"#TS:")?.trim_ascii_end();
    let seconds: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    seconds.checked_mul(1_000)?.checked_add(999)
}

/// What is at the beginning of a file is no younger than any annotation behind it.
fn tell_times(files: Vec<Opened>) -> Vec<SourceFile> {
    let mut annotated = u64::MAX;
    let mut told: Vec<SourceFile> = files
        .into_iter()
        .rev()
        .map(|Opened { path, file, bytes, modified_ms, annotated_ms }| {
            annotated = annotated.min(annotated_ms.unwrap_or(u64::MAX));
            SourceFile { path, file, bytes, begun_ms: modified_ms.min(annotated) }
        })
        .collect();
    told.reverse();
    told
}
