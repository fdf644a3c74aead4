//! Traffic and measurements for `scripts/bench.sh`. Not part of the server; speaks to any server of
//! the Redis protocol, so that two can be measured by the same means.
//!
//! Each subcommand prints its results as lines of `name=value`, separated by spaces, on standard
//! output, and ends with 1 and one line on standard error if it could not measure.

mod fleet;
mod gaps;
mod idle;
mod probe;
mod process;
mod rewrite;
#[path = "../../tests/common/rng.rs"]
#[allow(dead_code)] // the tests use more of it
mod rng;
mod settings;
mod startup;
mod sum;
mod wire;

use settings::Settings;
use std::io;
use std::process::ExitCode;

const HELP: &str = "\
usage: traffic SUBCOMMAND --port PORT [--name value]...

  probe    sends requests at a fixed rate, whatever the server does, and prints the latencies,
           counted from the moment each was due. Each line on standard input begins a phase of
           that name; ends with standard input, or after --seconds
             --rate 2000  --command get|set|ping  --keys 100000  --size 32  --seed 1
  write    SETs random keys from many clients; ends with standard input, or after --seconds
             --clients 50  --pipeline 1  --rate 0 (no limit)  --keys 100000  --size 32  --seed 1
             --deadline-every 0 (each Nth key number gets a far deadline)
  fill     SETs every key once; takes what write takes, but for an end
  rewrite  asks for BGREWRITEAOF, watches the server and its child until it is done
             --pid PID  --timeout 600
  sum      one checksum over value and deadline of every key
             --keys 100000
  idle     opens connections and holds them until standard input ends
             --clients 10000
  gaps     reads the clock and does nothing else: for how long it is kept from that, which is the
           machine's doing; needs no server
             --seconds 5
  startup  starts a server again and again, prints how long it takes to its first PONG
             --exec COMMAND (a word a line, %DIR% is an empty directory)  --starts 20
             --server-core N  --load-core N  --timeout 600
  ready    waits until the server has loaded its file and answers
             --timeout 600
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((subcommand, rest)) = args.split_first() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    match run(subcommand, rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("traffic {subcommand}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(subcommand: &str, args: &[String]) -> io::Result<()> {
    let settings = Settings::parse(args)?;
    match subcommand {
        "probe" => probe::run(&settings),
        "write" => fleet::write(&settings),
        "fill" => fleet::fill(&settings),
        "rewrite" => rewrite::run(&settings),
        "sum" => sum::run(&settings),
        "gaps" => gaps::run(&settings),
        "idle" => idle::run(&settings),
        "startup" => startup::run(&settings),
        "ready" => wire::wait_until_ready(settings.port()?, settings.timeout()?),
        _ => Err(io::Error::other(format!("there is no such subcommand\n\n{HELP}"))),
    }
}
