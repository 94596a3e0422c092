//! The shape of the code: imports point down, files stay small, unsafe code and clocks stay where they belong.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The stack's folders and root files from the bottom to the top; each may use itself and what stands before it.
const LAYERS: &[&[&str]] = &[
    &["wire", "time", "error", "stats", "random"],
    &["link"],
    &["neighbor"],
    &["transport"],
    &["tcp", "udp", "sctp", "ip"],
    &["config"],
    &["engine"],
    &["driver"],
    &["net"],
];
/// Siblings in one layer do not use each other.
const LIMIT: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir()
            && name != "target"
            && name != "fuzz"
            && name != "tokio-tests"
            && !name.starts_with('.')
        {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["netdev", "stack", "examples", "integration-tests"] {
        sources(&root().join(folder), &mut found);
    }
    assert!(found.len() > 100, "the sources are found");
    found
}

/// The text before the tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs")
}

#[test]
fn no_file_is_longer_than_800_lines_without_its_tests() {
    let long: Vec<_> = all_sources()
        .into_iter()
        .filter(|path| !is_test(path))
        .map(|path| {
            (
                product(&fs::read_to_string(&path).expect("readable"))
                    .lines()
                    .count(),
                path,
            )
        })
        .filter(|(lines, _)| *lines > LIMIT)
        .collect();
    assert!(long.is_empty(), "split the state of {long:?}");
}

/// The functions of a file as rustfmt lays it out: their first lines and how many lines they have.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let starts = lines.iter().enumerate().filter(|(_, line)| {
        let line = line.trim_start();
        !line.starts_with("//")
            && line.split(['(', '<']).next().is_some_and(|head| {
                head.starts_with("fn ") || head.contains(" fn ") && !head.contains([':', '=', '"'])
            })
    });
    let len = |(at, line): (usize, &&str)| {
        let end = lines[at..]
            .iter()
            .position(|other| indent(other) == indent(line) && matches!(other.trim(), "}" | "};"));
        Some((lines[at], end? + 1))
    };
    starts.filter_map(|(at, line)| len((at, line))).collect()
}

#[test]
fn no_function_is_longer_than_100_lines() {
    let (mut count, mut long) = (0, Vec::new());
    for path in all_sources().into_iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(&path).expect("readable");
        for (line, len) in functions(product(&text)) {
            count += 1;
            if len > 100 {
                long.push(format!("{}: {} ({len})", path.display(), line.trim()));
            }
        }
    }
    assert!(count > 3000, "the functions are found: {count}");
    assert!(long.is_empty(), "split the state of {long:#?}");
}

#[test]
fn imports_point_down() {
    let stack = root().join("stack/src");
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let mut wrong = Vec::new();
    let mut files = Vec::new();
    sources(&stack, &mut files);
    for path in files {
        let relative = path.strip_prefix(&stack).expect("inside").to_owned();
        let first = relative
            .components()
            .next()
            .expect("a name")
            .as_os_str()
            .to_string_lossy()
            .into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "lib" || is_test(&path) {
            continue;
        }
        let own =
            layer(&module).unwrap_or_else(|| panic!("{module} has no layer: put it into LAYERS"));
        let text = fs::read_to_string(&path).expect("readable");
        for line in product(&text)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for used in line.split("crate::").skip(1) {
                let name: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let Some(other) = layer(&name) else { continue };
                if other > own || (other == own && name != module && own > 0) {
                    wrong.push(format!("{}: {}", relative.display(), line.trim()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that point up or sideways:\n{}",
        wrong.join("\n")
    );
}

/// The rows of the README's table of what works.
fn rows(readme: &str) -> impl Iterator<Item = &str> {
    let table = readme.split("| | | shown by |").nth(1).expect("the table");
    let rows = table.lines().skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .filter(|row| row.starts_with("| "))
}

/// The numbers of three and four digits in a text, which are RFCs' there.
fn rfcs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '.')
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| (3..5).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit()))
}

#[test]
fn every_rfc_that_the_readme_names_is_cited_by_a_test() {
    let readme = fs::read_to_string(root().join("README.md")).expect("readable");
    let mut cited = BTreeSet::new();
    for path in all_sources() {
        let text = fs::read_to_string(&path).expect("readable");
        let tests = match is_test(&path) {
            true => &text,
            false => &text[product(&text).len()..],
        };
        let lines = tests.lines().filter(|line| line.contains("RFC"));
        cited.extend(lines.flat_map(rfcs).map(str::to_owned));
    }
    let named: BTreeSet<_> = rows(&readme).flat_map(rfcs).collect();
    assert!(named.len() > 50, "the table is found");
    let missing: Vec<_> = named.iter().filter(|rfc| !cited.contains(**rfc)).collect();
    assert!(missing.is_empty(), "no test cites {missing:?}");
}

/// The last column of the table of what works.
#[test]
fn every_test_that_the_readme_names_is_there() {
    let readme = fs::read_to_string(root().join("README.md")).expect("readable");
    let mut count = 0;
    for row in rows(&readme) {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next();
        for name in shown.expect("a column").split(", ") {
            count += 1;
            if !name.starts_with('`') {
                let path = root().join(format!("integration-tests/tests/{name}.rs"));
                assert!(path.is_file(), "{name} in {row}");
            }
        }
    }
    assert!(count > 20, "the table is found");
}

#[test]
fn unsafe_code_and_clocks_stay_in_their_files() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).expect("readable");
        let shown = path
            .strip_prefix(root())
            .expect("inside")
            .display()
            .to_string();
        if text.contains("allow(unsafe_code") && !shown.ends_with("structure.rs") {
            assert!(
                shown.starts_with("netdev/src/linux/"),
                "{shown} allows unsafe code"
            );
        }
        if text.contains("clippy::disallowed_methods") && !shown.ends_with("structure.rs") {
            assert!(
                ["stack/src/driver/clock.rs"].contains(&shown.as_str()),
                "{shown} reads clocks"
            );
        }
    }
}
