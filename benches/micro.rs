//! Times the pieces of work that a request is made of: `cargo bench --bench micro [FILTER]`, where
//! the filter is a part of a name such as `parse/`.

mod workloads;

use divan::Bencher;
use divan::counter::ItemsCount;
use workloads::Workload;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    divan::main();
}

fn names(workloads: &'static [Workload]) -> impl Iterator<Item = &'static str> {
    workloads.iter().map(|workload| workload.name)
}

#[divan::bench(args = names(workloads::ALL))]
fn small(bencher: Bencher<'_, '_>, name: &str) {
    time(bencher, workloads::ALL, name);
}

/// Memory's latency included.
#[divan::bench(args = names(workloads::LARGE))]
fn large(bencher: Bencher<'_, '_>, name: &str) {
    time(bencher, workloads::LARGE, name);
}

fn time(bencher: Bencher<'_, '_>, workloads: &[Workload], name: &str) {
    let Some(workload) = workloads.iter().find(|workload| workload.name == name) else { return };
    let bencher = bencher.counter(ItemsCount::new(workload.operations));
    if workload.consumes {
        let bencher = bencher.with_inputs(workload.prepare);
        // Given back, so that taking the state down is not timed.
        bencher.bench_local_values(|mut run| {
            run();
            run
        });
    } else {
        bencher.bench_local((workload.prepare)());
    }
}
