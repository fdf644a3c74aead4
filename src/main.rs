//! The binary: flags, logger, exit codes; nothing else.

use server_async::config::{self, Startup, parse_command_line};
use server_async::server;
use std::io::{self, Write};
use std::process::ExitCode;

/// The allocator's own settings. `thp:always` has it ask for huge pages, which the kernel then
/// gives unless `disable-thp` has them switched off for the process. With `narenas:1` all threads
/// share their memory: the entries that a thread has made while the log was loaded are freed by the
/// loop, and their room can be used by the loop again. Only one thread at a time allocates much.
// The allocator finds its settings by the symbol's name, which is no other crate's.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8] = b"thp:always,narenas:1\0";

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// `--check-aof`: the file is damaged, or a tail is to be cut off.
const DAMAGED: u8 = 1;
/// A log tool: the file was not checked, or what was asked for could not be done.
const TOOL_FAILED: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    // A script that reads the exit code must not take a mistyped flag for a damaged file.
    let usage = if config::is_log_tool(&args) { TOOL_FAILED } else { 1 };
    let startup = match parse_command_line(args.into_iter()) {
        Ok(startup) => startup,
        Err(e) => return refuse(&e, usage),
    };
    match startup {
        Startup::Help(text) | Startup::Version(text) => {
            // A reader that has gone away has read enough.
            let _ = writeln!(io::stdout(), "{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Startup::LogTool(request) => match server::run_log_tool(&request, &mut io::stdout()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(DAMAGED),
            Err(e) => refuse(&e, TOOL_FAILED),
        },
        Startup::Import(request) => {
            match server::import(&request, &mut io::stdout(), &mut io::stderr()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => refuse(&e, 1),
            }
        }
        Startup::Run { config, notices, config_file } => {
            match server::start(*config, &notices, config_file) {
                Ok(server) => ExitCode::from(u8::try_from(server.run()).unwrap_or(1)),
                Err(e) => refuse(&e, 1),
            }
        }
    }
}

fn refuse(e: &dyn std::error::Error, code: u8) -> ExitCode {
    // Nobody may be there to read it; the exit code says it too.
    let _ = writeln!(io::stderr(), "server_async: {e}");
    ExitCode::from(code)
}
