//! Runs one of the workloads for `scripts/instructions.sh`, which counts the instructions of
//! [`measured`]; without a name, lists the names and how many operations each counts as.

#[path = "../../benches/workloads/mod.rs"]
mod workloads;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        for workload in workloads::ALL {
            println!("{} {}", workload.name, workload.operations);
        }
        return ExitCode::SUCCESS;
    };
    let Some(workload) = workloads::ALL.iter().find(|workload| workload.name == name) else {
        eprintln!("there is no workload {name}");
        return ExitCode::FAILURE;
    };
    // What is done only the first time is not counted.
    let mut run = (workload.prepare)();
    run();
    if workload.consumes {
        run = (workload.prepare)();
    }
    measured(&mut run);
    ExitCode::SUCCESS
}

/// What is counted. Found by its name, so it must stay a function.
#[inline(never)]
fn measured(run: &mut workloads::Run) {
    run();
}
