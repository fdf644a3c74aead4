//! The command line, and what a start comes to.

mod moment;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use getopts::{Fail, Matches, Options};

use super::file::{Loader, StartupError, printable};
use super::parameters::{PARAMETERS, Parameter, Section, find, without_effect};
use super::value::Kind;
use super::{Config, StartupError::CommandLine};
use crate::text::words;

/// Single-letter forms: (letter, parameter).
const SHORT_FORMS: &[(&str, &str)] = &[("p", "port"), ("s", "unixsocket"), ("d", "dir")];

/// A flag that is no parameter but says what to do instead of serving.
struct Mode {
    /// Single-letter form, or "".
    short: &'static str,
    name: &'static str,
    /// How `--help` shows its value; "" if it takes none.
    placeholder: &'static str,
    help: &'static str,
}

const CHECK_AOF: &str = "check-aof";
const JSON: &str = "json";
const FIX: &str = "fix";
const SALVAGE: &str = "salvage";
const RESEAL: &str = "reseal";
const IN_PLACE: &str = "in-place";
const TRUNCATE_TO_TIME: &str = "truncate-to-time";
const IMPORT: &str = "import";

const MODES: &[Mode] = &[
    Mode { short: "h", name: "help", placeholder: "", help: "show this and leave" },
    Mode { short: "v", name: "version", placeholder: "", help: "show the version and leave" },
    Mode {
        short: "",
        name: CHECK_AOF,
        placeholder: "FILE",
        help: "tell what an append-only file holds and what in it is damaged, and leave: with \
               exit code 0 if it is clean, 1 if it is damaged or a torn tail is to be cut off, 2 \
               if it could not be read or a server uses it. Changes nothing",
    },
    Mode {
        short: "",
        name: JSON,
        placeholder: "",
        help: "with --check-aof: tell it as one JSON object; docs/aof-format.md lists the fields",
    },
    Mode {
        short: "",
        name: FIX,
        placeholder: "",
        help: "with --check-aof: write what is good of a damaged file, up to the first damage, to \
               FILE.fixed, which must not exist",
    },
    Mode {
        short: "",
        name: SALVAGE,
        placeholder: "",
        help: "with --check-aof: write to FILE.salvaged, which must not exist, what is good and \
               also what verifies behind the damage. That is no state that ever was: what is lost \
               is told. Takes the memory that a start takes",
    },
    Mode {
        short: "",
        name: RESEAL,
        placeholder: "FILE",
        help: "accept a file that was edited on purpose: write all its commands, sealed anew, to \
               FILE.resealed, which must not exist, and leave: with exit code 0, or with 2 if \
               that cannot be done or some command is not one that a log can hold",
    },
    Mode {
        short: "",
        name: TRUNCATE_TO_TIME,
        placeholder: "TIME FILE",
        help: "write what FILE held at TIME to FILE.until-TIME, which must not exist, and leave: \
               with exit code 0, or with 2 if that cannot be done; if FILE begins later, the file \
               kept from before a rewrite that does not is named. TIME is Unix time in seconds or \
               milliseconds, or UTC as 2026-01-31T23:59:59Z",
    },
    Mode {
        short: "",
        name: IN_PLACE,
        placeholder: "",
        help: "with --fix, --salvage or --reseal: change FILE itself, after a copy of it was kept \
               as FILE.before-fix-OFFSET, FILE.before-salvage-OFFSET or FILE.before-reseal",
    },
    Mode {
        short: "",
        name: IMPORT,
        placeholder: "PATH",
        help: "take over a log that Redis has written without an RDB preamble, and leave: PATH is \
               an append-only file of Redis 6.2 or older, or the appendonlydir (or the manifest) \
               of Redis 7. Writes the file that --dir and --appendfilename name, which must not \
               exist; PATH is not changed. Stop that Redis first",
    },
];

/// Columns of `--help`.
const HELP_COLUMNS: usize = 88;

/// Column of `--help` at which the words about a flag begin.
const HELP_INDENT: usize = 4;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Startup {
    /// Serve.
    Run {
        /// Every parameter's value.
        config: Box<Config>,
        /// Parameters that were given another value than the default, to no effect: to be named
        /// once in the log.
        notices: Vec<&'static str>,
        /// The configuration file, absolute; none where there was none or it was standard input.
        config_file: Option<PathBuf>,
    },
    /// Work on an append-only file that is at rest.
    LogTool(ToolRequest),
    /// Take over a log that Redis has written.
    Import(ImportRequest),
    /// Print this text.
    Help(String),
    /// Print this text.
    Version(String),
}

/// What is to be done with an append-only file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolRequest {
    /// The file, as it was given.
    pub file: PathBuf,
    /// What to do.
    pub tool: Tool,
    /// `proto-max-bulk-len`: the longest argument that clients may have sent, bytes.
    pub max_bulk_bytes: u64,
    /// `databases` of the server that the file is for.
    pub databases: u32,
}

/// What `--import` is to do.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// The log: a file, a manifest or a directory; as it was given.
    pub path: PathBuf,
    /// Where the new file goes and what it may hold. `dir` is absolute.
    pub config: Box<Config>,
}

/// What can be done with an append-only file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Tell what it holds.
    Check {
        /// As JSON.
        json: bool,
    },
    /// The same, and keep what is good up to the first damage.
    Fix(Output),
    /// The same, and keep what verifies behind it too.
    Salvage(Output),
    /// Accept it as it is.
    Reseal(Output),
    /// Copy what it held at some moment.
    TruncateToTime {
        /// Milliseconds since the Unix epoch.
        until_ms: u64,
    },
}

/// Where to a tool writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A copy beside the file.
    Copy,
    /// The file itself, of which a copy is kept.
    InPlace,
}

/// Whether a command line asks for one of the log tools, well formed or not: their exit codes
/// differ.
#[must_use]
pub fn is_log_tool(args: &[OsString]) -> bool {
    let flags = args.iter().filter_map(|arg| arg.to_str()?.strip_prefix("--"));
    flags.map(|flag| flag.split('=').next().unwrap_or(flag)).any(|name| {
        [CHECK_AOF, RESEAL, TRUNCATE_TO_TIME].iter().any(|tool| name.eq_ignore_ascii_case(tool))
    })
}

/// Reads the command line (without the program's name) and the configuration file that it names.
///
/// `[CONFIG_FILE] [--name value]...`: the file comes first, flags override it, the last one wins.
/// `--name=value` is the same; `yes` may be left out; a parameter of several words takes them
/// quoted as one, or as they stand up to the next flag. Nothing is written anywhere.
///
/// # Errors
/// [`StartupError`] for what is unknown, refused or unreadable.
pub fn parse_command_line(args: impl Iterator<Item = OsString>) -> Result<Startup, StartupError> {
    let args = normalize(&to_text(args)?);
    let matches = options().parse(&args).map_err(|fail| command_line_error(&fail))?;
    if matches.opt_present("help") {
        return Ok(Startup::Help(help()));
    }
    if matches.opt_present("version") {
        return Ok(Startup::Version(version()));
    }
    let mut loader = Loader::default();
    let config_file = match matches.free.as_slice() {
        [] => None,
        // There it is the log.
        [_] if matches.opt_present(TRUNCATE_TO_TIME) => None,
        [path] => {
            loader.read_file(Path::new(path))?;
            (path != "-").then(|| absolute(Path::new(path)))
        }
        [_, word, ..] => {
            let word = printable(word.as_bytes());
            return Err(CommandLine(format!("Unexpected argument '{word}'")));
        }
    };
    loader.begin_flags();
    for (name, value) in flags_in_order(&matches) {
        set_flag(&mut loader, name, &value)?;
    }
    let mut config = loader.config;
    let path = import_path(&matches)?;
    if let Some((file, tool)) = log_tool(&matches)? {
        if path.is_some() {
            return Err(CommandLine("Flag --import does not go with log tools".into()));
        }
        let (max_bulk_bytes, databases) = (config.proto_max_bulk_bytes, config.databases);
        return Ok(Startup::LogTool(ToolRequest { file, tool, max_bulk_bytes, databases }));
    }
    config.dir = absolute(&config.dir);
    if let Some(path) = path {
        return Ok(Startup::Import(ImportRequest { path, config: Box::new(config) }));
    }
    let notices = without_effect(&config);
    Ok(Startup::Run { config: Box::new(config), notices, config_file })
}

/// The log tool that is asked for, and the file that it is to work on.
fn log_tool(matches: &Matches) -> Result<Option<(PathBuf, Tool)>, StartupError> {
    let refused = |why: &str| Err(CommandLine(why.to_owned()));
    let has = |name| matches.opt_present(name);
    let checked = flag_once(matches, CHECK_AOF)?;
    let resealed = flag_once(matches, RESEAL)?;
    let moment = flag_once(matches, TRUNCATE_TO_TIME)?;
    for name in [JSON, FIX, SALVAGE] {
        if has(name) && checked.is_none() {
            return refused(&format!("Flag --{name} goes with --check-aof only"));
        }
    }
    if has(IN_PLACE) && !has(FIX) && !has(SALVAGE) && resealed.is_none() {
        return refused("Flag --in-place goes with --fix, --salvage or --reseal only");
    }
    let output = if has(IN_PLACE) { Output::InPlace } else { Output::Copy };
    let (file, tool) = match (checked, resealed, moment) {
        (None, None, None) => return Ok(None),
        (Some(file), None, None) => match (has(JSON), has(FIX), has(SALVAGE)) {
            (json, false, false) => (file, Tool::Check { json }),
            (false, true, false) => (file, Tool::Fix(output)),
            (false, false, true) => (file, Tool::Salvage(output)),
            _ => return refused("Of the flags --json, --fix and --salvage only one can be given"),
        },
        (None, Some(file), None) => (file, Tool::Reseal(output)),
        (None, None, Some(time)) => {
            let Some(until_ms) = moment::parse(&time) else {
                let (time, forms) = (printable(time.as_bytes()), moment::FORMS);
                return refused(&format!("'{time}' is no time: it must be {forms}"));
            };
            let [file] = matches.free.as_slice() else {
                return refused("Flag --truncate-to-time TIME must be followed by one file");
            };
            (file.clone(), Tool::TruncateToTime { until_ms })
        }
        _ => {
            return refused(
                "Of the flags --check-aof, --reseal and --truncate-to-time only one can be given",
            );
        }
    };
    Ok(Some((PathBuf::from(file), tool)))
}

/// The value of a flag that may be given once.
fn flag_once(matches: &Matches, name: &str) -> Result<Option<String>, StartupError> {
    match matches.opt_strs(name).as_slice() {
        [] => Ok(None),
        [value] if value.is_empty() => Err(CommandLine(format!("Flag --{name} lacks its value"))),
        [value] => Ok(Some(value.clone())),
        _ => Err(CommandLine(format!("Flag --{name} is given twice"))),
    }
}

/// The path that `--import` names, if it is there.
fn import_path(matches: &Matches) -> Result<Option<PathBuf>, StartupError> {
    Ok(flag_once(matches, IMPORT)?.map(PathBuf::from))
}

/// `server_async` and the version of the package.
#[must_use]
pub fn version() -> String {
    concat!("server_async ", env!("CARGO_PKG_VERSION")).to_owned()
}

fn to_text(args: impl Iterator<Item = OsString>) -> Result<Vec<String>, StartupError> {
    args.map(|arg| {
        arg.into_string().map_err(|arg| {
            let arg = printable(arg.as_encoded_bytes());
            CommandLine(format!("Argument '{arg}' is not valid UTF-8"))
        })
    })
    .collect()
}

/// Without a working directory there is nothing to resolve against; the start fails later, when
/// the directory is entered.
fn absolute(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.components().collect()
}

fn options() -> Options {
    let mut options = Options::new();
    for Mode { short, name, placeholder, help } in MODES {
        match *placeholder {
            "" => options.optflagmulti(short, name, help),
            placeholder => options.optmulti(short, name, help, placeholder),
        };
    }
    for parameter in PARAMETERS {
        for name in parameter.names() {
            options.optmulti(short_form(name), name, parameter.help, "");
        }
    }
    options
}

fn short_form(name: &str) -> &'static str {
    SHORT_FORMS.iter().find(|(_, of)| *of == name).map_or("", |(short, _)| short)
}

/// Brings long flags into the one form `--name=value`, and so those that getopts lacks too:
/// `--appendonly` alone and `--save 60 1`. What is wrong is left for getopts to find.
fn normalize(args: &[String]) -> Vec<String> {
    let mut normalized = Vec::new();
    let mut rest = args.iter().map(String::as_str).peekable();
    while let Some(arg) = rest.next() {
        let Some(flag) = arg.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            normalized.push(arg.to_owned());
            if arg == "--" {
                normalized.extend(rest.by_ref().map(str::to_owned));
            }
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        let name = name.to_ascii_lowercase();
        let kind = find(name.as_bytes()).map(|(_, parameter)| parameter.kind);
        let value = match (value, kind) {
            (Some(value), _) => Some(value.to_owned()),
            (None, Some(Kind::YesNo)) => {
                Some(rest.next_if(|arg| !arg.starts_with('-')).unwrap_or("yes").to_owned())
            }
            (None, Some(kind)) if kind.takes_several_words() => {
                let mut words = Vec::new();
                while let Some(word) = rest.next_if(|arg| !is_flag(arg)) {
                    words.push(word);
                }
                Some(join_words(&words))
            }
            // Taken here, so that a value that looks like a flag is not rewritten as one.
            (None, Some(_)) => rest.next().map(str::to_owned),
            (None, None) if takes_value(&name) => rest.next().map(str::to_owned),
            (None, None) => None,
        };
        normalized.push(match value {
            Some(value) => format!("--{name}={value}"),
            None => format!("--{name}"),
        });
    }
    normalized
}

/// Whether a flag that is no parameter has a value.
fn takes_value(name: &str) -> bool {
    MODES.iter().any(|mode| mode.name == name && !mode.placeholder.is_empty())
}

/// `-::1` is an address; `-p` and what begins with two dashes are flags.
fn is_flag(arg: &str) -> bool {
    let letters = SHORT_FORMS.iter().map(|(short, _)| *short);
    let mut letters = letters.chain(MODES.iter().map(|mode| mode.short));
    let mut is_short = |rest: &str| !rest.is_empty() && letters.any(|letter| letter == rest);
    arg.starts_with("--") || arg.strip_prefix('-').is_some_and(&mut is_short)
}

/// One text that [`words::split`] takes apart again. A single word is left as it is: it may be
/// several, quoted for the shell.
fn join_words(words: &[&str]) -> String {
    if let [word] = words {
        return (*word).to_owned();
    }
    let quote = |word: &&str| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

fn flags_in_order(matches: &Matches) -> Vec<(&'static str, String)> {
    let mut given: Vec<(usize, &'static str, String)> = Vec::new();
    for name in PARAMETERS.iter().flat_map(Parameter::names) {
        let values = matches.opt_strs_pos(name);
        given.extend(values.into_iter().map(|(position, value)| (position, name, value)));
    }
    given.sort_by_key(|(position, _, _)| *position);
    given.into_iter().map(|(_, name, value)| (name, value)).collect()
}

fn set_flag(loader: &mut Loader, name: &str, value: &str) -> Result<(), StartupError> {
    if name == "include" {
        return loader.include(value.as_bytes());
    }
    let parameter = find(name.as_bytes()).map(|(_, parameter)| parameter);
    let several = parameter.is_some_and(|p| p.kind.takes_several_words());
    let set = match words::split(value.as_bytes()).filter(|_| several) {
        Some(words) => {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            loader.set(name.as_bytes(), &words)
        }
        None => loader.set(name.as_bytes(), &[value.as_bytes()]),
    };
    set.map_err(|why| {
        let secret = parameter.is_some_and(Parameter::is_sensitive);
        let flag = if secret { format!("--{name}") } else { format!("--{name} {value}") };
        StartupError::Flag { flag: printable(flag.as_bytes()), why: why.into_owned() }
    })
}

fn command_line_error(fail: &Fail) -> StartupError {
    let dashed = |name: &str| {
        let dashes = if name.chars().count() == 1 { "-" } else { "--" };
        printable(format!("{dashes}{name}").as_bytes())
    };
    CommandLine(match fail {
        Fail::ArgumentMissing(name) => format!("Flag {} lacks its value", dashed(name)),
        Fail::UnrecognizedOption(name) => format!("Unknown flag {}", dashed(name)),
        Fail::UnexpectedArgument(name) => format!("Flag {} takes no value", dashed(name)),
        Fail::OptionMissing(name) => format!("Flag {} is missing", dashed(name)),
        Fail::OptionDuplicated(name) => format!("Flag {} is given twice", dashed(name)),
    })
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = format!(
        "{}: a Redis-protocol server with a durable append-only file\n\n\
         Usage: server_async [CONFIG_FILE] [--name value]...\n\
         \x20      server_async --check-aof FILE [--json]\n\
         \x20      server_async --check-aof FILE --fix|--salvage [--in-place]\n\
         \x20      server_async --reseal FILE [--in-place]\n\
         \x20      server_async --truncate-to-time TIME FILE\n\
         \x20      server_async --import PATH [--dir DIR] [--appendfilename NAME]\n\n\
         CONFIG_FILE has the syntax of redis.conf; - is standard input. Flags have the names of\n\
         its parameters and override it. CONFIG GET and CONFIG SET know the same names.\n",
        version()
    );
    text.push('\n');
    for Mode { short, name, placeholder, help } in MODES {
        let letter = if short.is_empty() { String::new() } else { format!("-{short}, ") };
        push_flag(&mut text, format!("{letter}--{name} {placeholder}").trim_end(), help);
    }
    for section in Section::ALL {
        let rows = || PARAMETERS.iter().filter(|p| p.section == section);
        text.push_str(&format!("\n{}:\n", section.title()));
        if section == Section::Compatibility {
            let names = rows().map(|p| p.name).collect::<Vec<_>>().join(" ");
            push_wrapped(&mut text, &names, HELP_INDENT);
            continue;
        }
        for parameter in rows() {
            let short = match short_form(parameter.name) {
                "" => String::new(),
                letter => format!("-{letter}, "),
            };
            let flag = format!("{short}--{} {}", parameter.name, parameter.kind.placeholder());
            let default = match parameter.default {
                "" => "none",
                default => default,
            };
            push_flag(&mut text, &flag, &format!("{} [{default}]", parameter.help));
        }
    }
    text
}

fn push_flag(text: &mut String, flag: &str, help: &str) {
    text.push_str(&format!("  {flag}\n"));
    push_wrapped(text, help, 2 * HELP_INDENT);
}

/// Appends `words` in lines of at most [`HELP_COLUMNS`], indented.
fn push_wrapped(text: &mut String, words: &str, indent: usize) {
    let mut column = 0;
    for word in words.split(' ') {
        if column == 0 || column + 1 + word.len() > HELP_COLUMNS {
            if column != 0 {
                text.push('\n');
            }
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
}
