//! The binary: flags, logger, exit codes; nothing else.

use server_async::config::{Startup, parse_command_line};
use server_async::server;
use std::io::{self, Write};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let startup = match parse_command_line(std::env::args_os().skip(1)) {
        Ok(startup) => startup,
        Err(e) => return refuse(&e),
    };
    match startup {
        Startup::Help(text) | Startup::Version(text) => {
            // A reader that has gone away has read enough.
            let _ = writeln!(io::stdout(), "{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Startup::Run { config, notices, config_file } => {
            match server::start(*config, &notices, config_file) {
                Ok(server) => ExitCode::from(u8::try_from(server.run()).unwrap_or(1)),
                Err(e) => refuse(&e),
            }
        }
    }
}

fn refuse(e: &dyn std::error::Error) -> ExitCode {
    // Nobody may be there to read it; the exit code says it too.
    let _ = writeln!(io::stderr(), "server_async: {e}");
    ExitCode::FAILURE
}
