//! Imports point downward only, and folders of one layer never import each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. What stands on one line does not see its neighbours.
const LAYERS: &[&[&str]] = &[
    &["text"],
    &["config", "sys", "resp", "data"],
    &["keyspace"],
    &["engine", "persist"],
    &["commands", "net"],
    &["server"],
];

/// Units of time are everyone's vocabulary.
const EVERYWHERE: &[&str] = &["sys::clock"];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("list the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The paths behind `crate::` in a source text, each up to its second part (`sys::clock`), with
/// the parts of a brace group told apart. Comments are no imports.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate` and names that merely end in "crate" are not ours.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        paths.extend(expand(code[at + "crate::".len()..].trim_start(), 2));
    }
    paths
}

/// The paths that `text` begins with, `depth` parts deep.
fn expand(text: &str, depth: usize) -> Vec<String> {
    if depth == 0 {
        return vec![String::new()];
    }
    if let Some(group) = text.strip_prefix('{') {
        return split_group(group).into_iter().flat_map(|part| expand(part, depth)).collect();
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest.trim_start(), depth - 1)
            .into_iter()
            .map(|tail| if tail.is_empty() { name.to_owned() } else { format!("{name}::{tail}") })
            .collect(),
        None => vec![name.to_owned()],
    }
}

/// The parts of a brace group whose opening brace is already behind.
fn split_group(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(text[start..at].trim());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[test]
fn paths_are_read_from_every_form_of_use() {
    let text = "use crate::a::B;\nuse crate::{c::{D, E}, f,\n g::h::i};\nlet x = crate::j::k();\n\
                // use crate::no::no;\nuse crate::l;\n$crate::m::n; mycrate::o::p";
    let expected = ["a::B", "c::D", "c::E", "f", "g::h", "j::k", "l"].map(str::to_owned);
    assert_eq!(crate_paths(text), BTreeSet::from(expected));
}

#[test]
fn every_folder_has_its_layer() {
    for entry in fs::read_dir(source()).expect("list the sources") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if !["main.rs", "lib.rs"].contains(&name.as_str()) {
            let module = name.trim_end_matches(".rs");
            assert!(layer_of(module).is_some(), "src/{name} is in no layer");
        }
    }
}

#[test]
fn imports_point_downward_only() {
    let mut wrong = Vec::new();
    for file in files(&source()) {
        let relative = file.strip_prefix(source()).expect("below src").to_owned();
        let first = relative.iter().next().expect("a name").to_string_lossy().into_owned();
        let Some(own) = layer_of(&first) else { continue };
        for path in crate_paths(&fs::read_to_string(&file).expect("read a source file")) {
            let module = path.split("::").next().unwrap_or_default();
            let Some(theirs) = layer_of(module) else { continue };
            let allowed = module == first || theirs < own || EVERYWHERE.contains(&path.as_str());
            if !allowed {
                wrong.push(format!("src/{}: crate::{path}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not point downward:\n{}", wrong.join("\n"));
}

/// `super` leads out of a folder when it is repeated often enough: imports that cross folders are
/// written with `crate::`, where the test above sees them.
#[test]
fn no_import_leaves_its_folder_by_super() {
    let mut wrong = Vec::new();
    for file in files(&source()) {
        let relative = file.strip_prefix(source()).expect("below src").to_owned();
        // `a/b.rs` is the module a::b, two deep: two supers lead to the root. `a/mod.rs` is one
        // deep. A module written within the file, indented, is one deeper.
        let is_folder_itself = relative.file_name().is_some_and(|name| name == "mod.rs");
        let depth = relative.iter().count() - usize::from(is_folder_itself);
        let text = fs::read_to_string(&file).expect("read a source file");
        let leaves = |line: &str| {
            let indented = usize::from(line.starts_with(' '));
            line.contains(&"super::".repeat(depth + indented))
        };
        if relative.iter().count() > 1 && text.lines().any(leaves) {
            wrong.push(relative.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "these leave their folder by super: {wrong:?}");
}

#[test]
fn main_uses_the_library_alone() {
    let text = fs::read_to_string(source().join("main.rs")).expect("read main.rs");
    let modules: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("mod ") || line.starts_with("pub mod "))
        .collect();
    assert!(modules.is_empty(), "main.rs has modules of its own: {modules:?}");
}
