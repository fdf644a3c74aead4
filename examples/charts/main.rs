//! Draws charts for the README from what `scripts/bench.sh --csv` has kept: throughput by policy and
//! pipeline, and latency before, during and after a rewrite.
//!
//! `charts FOLDER CSV...` writes `FOLDER/throughput.svg` and `FOLDER/rewrite-latency.svg`, each if
//! there are figures for it. The drawings have no background and follow the reader's choice of light
//! or dark.

mod bars;
mod results;
mod spread;
mod svg;

use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use results::Results;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((folder, files)) = args.split_first().filter(|(_, files)| !files.is_empty()) else {
        eprintln!("usage: charts FOLDER CSV...");
        return ExitCode::from(2);
    };
    match draw(Path::new(folder), files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("charts: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(folder: &Path, files: &[String]) -> io::Result<()> {
    let mut drawn = 0;
    for file in files {
        let text = fs::read_to_string(file)
            .map_err(|error| io::Error::other(format!("{file}: {error}")))?;
        let results = Results::parse(&text);
        for (name, chart) in [
            ("throughput.svg", bars::draw(&results)),
            ("rewrite-latency.svg", spread::draw(&results)),
        ] {
            if let Some(chart) = chart {
                fs::write(folder.join(name), chart)?;
                println!("{}", folder.join(name).display());
                drawn += 1;
            }
        }
    }
    if drawn == 0 {
        return Err(io::Error::other("no figures of throughput or of a rewrite in these files"));
    }
    Ok(())
}
