//! LATENCY: what held the loop up, and when.

use super::options;
use crate::engine::calls::Histogram;
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{Command, CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::latency::{LatencyEvent, Series};
use crate::resp::args::Args;

const HELP_FLAGS: Flags = Flags::NO_KEYS.and(Flags::LOADING).and(Flags::STALE);
const COMMON: Flags = HELP_FLAGS.and(Flags::ADMIN).and(Flags::NO_SCRIPT);
const TIPS: &[&str] =
    &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];

/// The command of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "latency",
    doc: Doc::new("server", "2.8.13", "By subcommand", "Looks at what has held the server up."),
    arity: AtLeast(2),
    subcommands: &[
        CommandSpec {
            name: "doctor",
            doc: Doc::new("server", "2.8.13", "O(1)", "Explains the spikes of latency."),
            arity: Exactly(2),
            flags: COMMON,
            tips: TIPS,
            run: doctor,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "graph",
            doc: Doc::new("server", "2.8.13", "O(1)", "Draws the spikes of one event.")
                .takes("event"),
            arity: Exactly(3),
            flags: COMMON,
            tips: TIPS,
            run: graph,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "help",
            doc: Doc::new("server", "2.8.13", "O(1)", "Explains the subcommands."),
            arity: Exactly(2),
            flags: HELP_FLAGS,
            run: help,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "histogram",
            doc: Doc::new(
                "server",
                "7.0.0",
                "O(N), N being the number of commands that were run.",
                "Tells how the times of commands are distributed.",
            )
            .takes("[command...]"),
            arity: AtLeast(2),
            flags: COMMON,
            tips: TIPS,
            run: histogram,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "history",
            doc: Doc::new("server", "2.8.13", "O(1)", "Lists the spikes of one event.")
                .takes("event"),
            arity: Exactly(3),
            flags: COMMON,
            tips: TIPS,
            run: history,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "latest",
            doc: Doc::new("server", "2.8.13", "O(1)", "Lists the newest spike of each event."),
            arity: Exactly(2),
            flags: COMMON,
            tips: TIPS,
            run: latest,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "reset",
            doc: Doc::new("server", "2.8.13", "O(1)", "Forgets spikes.").takes("[event...]"),
            arity: AtLeast(2),
            flags: COMMON,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            run: reset,
            ..CommandSpec::ROW
        },
    ],
    ..CommandSpec::ROW
}];

const HELP: &[&str] = &[
    "DOCTOR",
    "    Say in words what was slow, and what can be done about it.",
    "GRAPH <event>",
    "    Draw the spikes of <event>, oldest on the left.",
    "HISTOGRAM [<command> ...]",
    "    Return of these commands, or of all that were run, how many calls took no longer than",
    "    times (microseconds) that double from one to the next.",
    "HISTORY <event>",
    "    Return the spikes of <event>: when (Unix time), how long (milliseconds).",
    "LATEST",
    "    Return each event with its last spike and its worst.",
    "RESET [<event> ...]",
    "    Forget the spikes of these events, or of all.",
];

fn help(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.help("LATENCY", HELP);
    Ok(())
}

fn latest(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let latency = &cx.registries.latency;
    cx.reply.array(latency.all().len());
    for (event, series) in latency.all() {
        let Some(last) = series.latest() else { continue };
        cx.reply.array(4);
        cx.reply.bulk(event.name().as_bytes());
        cx.reply.integer(last.unix_sec);
        cx.reply.integer(last.ms.cast_signed());
        cx.reply.integer(series.max_ms().cast_signed());
    }
    Ok(())
}

fn history(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let series = LatencyEvent::named(&args[2]).and_then(|event| cx.registries.latency.of(event));
    let Some(series) = series else {
        cx.reply.array(0);
        return Ok(());
    };
    cx.reply.array(series.spikes().len());
    for spike in series.spikes() {
        cx.reply.array(2);
        cx.reply.integer(spike.unix_sec);
        cx.reply.integer(spike.ms.cast_signed());
    }
    Ok(())
}

/// Of a container, its subcommands' too. Names that no command has are passed over.
fn histogram(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let registries = &*cx.registries;
    let commands: Vec<Command> = if args.len() == 2 {
        registries.table.commands().to_vec()
    } else {
        let named = args.from(2).filter_map(|name| registries.table.find_full(name));
        named.flat_map(|command| std::iter::once(command).chain(command.subcommands())).collect()
    };
    let known: Vec<(Command, &Histogram)> = commands
        .into_iter()
        .filter_map(|command| Some((command, registries.calls.of(command)?.times.as_ref()?)))
        .collect();
    cx.reply.map(known.len());
    for (command, times) in known {
        cx.reply.bulk(command.full_name().as_bytes());
        cx.reply.map(2);
        cx.reply.bulk(b"calls");
        cx.reply.integer(times.total().cast_signed());
        cx.reply.bulk(b"histogram_usec");
        let bounds = times.cumulative();
        cx.reply.map(bounds.len());
        for (us, calls) in bounds {
            cx.reply.integer(us.cast_signed());
            cx.reply.integer(calls.cast_signed());
        }
    }
    Ok(())
}

fn reset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let latency = &mut cx.registries.latency;
    let forgotten = if args.len() == 2 {
        latency.forget_all()
    } else {
        let named = args.from(2).filter_map(LatencyEvent::named);
        named.filter(|event| latency.forget(*event)).count()
    };
    cx.reply.count(forgotten);
    Ok(())
}

fn graph(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let event = LatencyEvent::named(&args[2]);
    let Some((event, series)) =
        event.and_then(|event| Some((event, cx.registries.latency.of(event)?)))
    else {
        let name = options::c_text(&args[2]);
        let text = [b"ERR No samples available for event '", name, b"'"].concat();
        return Err(CommandError::owned(text));
    };
    let text = draw(event, series, cx.now.0.div_euclid(1_000));
    cx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// The spikes as columns, in the form that Redis draws: four lines, of which each can show three
/// heights, and below them how long ago each was, written downwards.
fn draw(event: LatencyEvent, series: &Series, now_sec: i64) -> String {
    const COLUMNS: usize = 80;
    const LINES: usize = 4;
    /// What a line shows of a column that ends in it.
    const TOPS: [char; 3] = ['_', 'o', '#'];
    let heights = series.spikes().map(|spike| spike.ms);
    let (low, high) = (heights.clone().min().unwrap_or(0), heights.max().unwrap_or(0));
    let mut text = format!(
        "{} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        event.name(),
        series.max_ms(),
        "-".repeat(COLUMNS)
    );
    let columns: Vec<(usize, String)> = series
        .spikes()
        .map(|spike| {
            let steps = (LINES * TOPS.len()) as u64;
            let step = (spike.ms - low) * steps / (high - low).max(1);
            (step.min(steps - 1) as usize, age(now_sec - spike.unix_sec))
        })
        .collect();
    for part in columns.chunks(COLUMNS) {
        for line in (0..LINES).rev() {
            let shown = |step: usize| match step.checked_sub(line * TOPS.len()) {
                None => ' ',
                Some(rest) => TOPS.get(rest).copied().unwrap_or('|'),
            };
            text.extend(part.iter().map(|(step, _)| shown(*step)));
            text.push('\n');
        }
        text.extend(part.iter().map(|_| ' '));
        text.push('\n');
        let longest = part.iter().map(|(_, age)| age.len()).max().unwrap_or(0);
        for at in 0..longest {
            text.extend(
                part.iter().map(|(_, age)| age.as_bytes().get(at).map_or(' ', |b| *b as char)),
            );
            text.push('\n');
        }
    }
    text
}

/// A duration in its largest unit: `59s`, `2h`.
fn age(sec: i64) -> String {
    match sec {
        ..60 => format!("{sec}s"),
        60..3_600 => format!("{}m", sec / 60),
        3_600..86_400 => format!("{}h", sec / 3_600),
        _ => format!("{}d", sec / 86_400),
    }
}

fn doctor(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let threshold_ms = cx.registries.config.latency_monitor_threshold_ms;
    let latency = &cx.registries.latency;
    let mut text = String::new();
    if threshold_ms == 0 && latency.all().len() == 0 {
        text.push_str(
            "Nothing was watched: 'CONFIG SET latency-monitor-threshold <milliseconds>' begins to \
             take note of whatever takes that long.\n",
        );
    } else if latency.all().len() == 0 {
        text.push_str("Nothing took as long as latency-monitor-threshold. All is well.\n");
    }
    for (event, series) in latency.all() {
        let count = series.spikes().len() as u64;
        let sum: u64 = series.spikes().map(|spike| spike.ms).sum();
        let average = sum / count.max(1);
        let deviation: u64 = series.spikes().map(|spike| spike.ms.abs_diff(average)).sum();
        let first = series.spikes().next().map_or(0, |spike| spike.unix_sec);
        let watched = (cx.now.0.div_euclid(1_000) - first).max(1) as f64;
        text.push_str(&format!(
            "{}: {count} spikes, {average} ms on average (mean deviation {} ms), one each {:.2} s; \
             the worst took {} ms.\n    {}\n",
            event.name(),
            deviation / count.max(1),
            watched / count.max(1) as f64,
            series.max_ms(),
            advice(event),
        ));
    }
    cx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

fn advice(event: LatencyEvent) -> &'static str {
    match event {
        LatencyEvent::Command | LatencyEvent::FastCommand => {
            "A command took long: large values, many keys at once (KEYS, FLUSHALL, large MSETs), or \
             a processor that others use too."
        }
        LatencyEvent::Fork => {
            "A fork copies page tables. With 'disable-thp no', and with the kernel's \
             transparent_hugepage not at 'never', it is some ten times shorter."
        }
        LatencyEvent::AofWrite => {
            "write(2) to the append-only file waited for the disk. Other programs may keep it busy; \
             a disk of its own helps, and so does more memory for the page cache."
        }
        LatencyEvent::AofFsyncAlways => {
            "A sync was slow. Under 'appendfsync always' each writer waits for one; the loop does \
             not."
        }
        LatencyEvent::AofRename => {
            "Giving a rewritten file its name was slow, directory sync included. The loop did not \
             wait for it."
        }
        LatencyEvent::AofRewriteDiffWrite => {
            "What the loop itself had to add to a rewritten file took long: the disk is busy."
        }
        LatencyEvent::ExpireCycle => {
            "Many keys reach their deadlines at once. Deadlines that are spread out help."
        }
        LatencyEvent::EvictionCycle => {
            "Keys had to go because memory had reached maxmemory. A lower \
             maxmemory-eviction-tenacity removes fewer at once; more memory, none."
        }
        LatencyEvent::EvictionDel => {
            "To free a large evicted value took long. 'lazyfree-lazy-eviction yes' has another \
             thread do that."
        }
        LatencyEvent::EvictionLazyfree => {
            "Memory had reached maxmemory, no key was left that may go, and what a helper thread \
             frees was waited for."
        }
        LatencyEvent::EventLoop => {
            "A whole turn took long: many clients at once, long pipelines, or one of the causes \
             above."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Bench;

    fn bench() -> Bench {
        Bench::new(&[ROWS])
    }

    #[test]
    fn spikes_are_shown_and_forgotten() {
        let mut bench = bench();
        assert_eq!(bench.send("latency latest"), "*0");
        assert_eq!(bench.send("latency history command"), "*0");
        let latency = &mut bench.registries.latency;
        latency.note(LatencyEvent::Command, 23_000, 5, 1_999_999_990);
        latency.note(LatencyEvent::Command, 50_999, 5, 1_999_999_991);
        latency.note(LatencyEvent::Command, 10_000, 5, 1_999_999_992);
        latency.note(LatencyEvent::Fork, 7_000, 5, 1_999_999_000);
        assert_eq!(
            bench.send("latency latest"),
            "*2 *4 $7 command :1999999992 :10 :50 *4 $4 fork :1999999000 :7 :7"
        );
        assert_eq!(
            bench.send("latency history COMMAND"),
            "*3 *2 :1999999990 :23 *2 :1999999991 :50 *2 :1999999992 :10"
        );
        assert_eq!(bench.send("latency reset nothing command"), ":1");
        assert_eq!(bench.send("latency reset"), ":1");
        assert_eq!(bench.send("latency reset"), ":0");
        assert_eq!(bench.send("latency graph Nope"), "-ERR No samples available for event 'Nope'");
        assert_eq!(
            bench.send(r#"latency graph "nope\x00z""#),
            "-ERR No samples available for event 'nope'"
        );
    }

    #[test]
    fn a_histogram_is_told_of_each_command_that_ran() {
        let mut bench = Bench::new(&[ROWS, crate::commands::connection::ROWS]);
        assert_eq!(bench.send("latency histogram"), "*0");
        bench.send("ping");
        bench.send("ping");
        bench.send("latency latest x");
        let ping = "$4 ping *4 $5 calls :2 $14 histogram_usec *2 :1 :2";
        assert_eq!(
            bench.send("latency histogram PING nosuch latency|latest"),
            format!("*2 {ping}")
        );
        assert!(bench.send("latency histogram latency").starts_with("*2 $17 latency|histogram *4"));
        bench.resp3();
        assert_eq!(
            bench.send("latency histogram ping"),
            "%1 $4 ping %2 $5 calls :2 $14 histogram_usec %1 :1 :2"
        );
        bench.registries.config.latency_tracking = false;
        bench.registries.calls.reset();
        bench.send("ping");
        assert_eq!(bench.send("latency histogram"), "%0");
    }

    #[test]
    fn a_graph_is_drawn_as_redis_draws_it() {
        let mut latency = crate::engine::latency::Latency::default();
        latency.note(LatencyEvent::Command, 23_000, 5, 100);
        latency.note(LatencyEvent::Command, 50_000, 5, 101);
        latency.note(LatencyEvent::Command, 10_000, 5, 102);
        let series = latency.of(LatencyEvent::Command).expect("spikes");
        let rule = "-".repeat(80);
        assert_eq!(
            draw(LatencyEvent::Command, series, 102),
            format!(
                "command - high 50 ms, low 10 ms (all time high 50 ms)\n{rule}\n # \n | \n_| \n||_\n   \
                 \n210\nsss\n"
            )
        );
        assert_eq!(["59s", "1m", "23h", "2d"], [59, 119, 86_399, 172_800].map(age).as_slice());
    }

    #[test]
    fn the_doctor_knows_every_event() {
        let mut bench = bench();
        assert!(bench.send("latency doctor").contains("Nothing was watched"));
        bench.registries.config.latency_monitor_threshold_ms = 5;
        assert!(bench.send("latency doctor").contains("All is well"));
        for event in LatencyEvent::ALL {
            bench.registries.latency.note(event, 9_000, 5, 1_999_999_990);
        }
        let text = bench.send("latency doctor");
        for event in LatencyEvent::ALL {
            assert!(text.contains(&format!("{}: 1 spikes, 9 ms", event.name())), "{text}");
        }
    }
}
