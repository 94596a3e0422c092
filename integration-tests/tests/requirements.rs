//! Which test shows that a requirement of RFC 9293 (Appendix B) is met.
//!
//! `requirements/rfc9293.txt` lists them. A test names those it shows in the comment above it, or in the one that its body begins
//! with: `MUST-58`, `SHLD-18`. What comes of both is `stack/src/tcp/REQUIREMENTS.md`; with `TIDEWIRE_BLESS=1` that file is
//! written, otherwise it must be up to date.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const KINDS: [&str; 4] = ["MUST", "SHLD", "MAY", "REC"];

/// A line of the list.
enum Line {
    Section(String),
    Requirement(Requirement),
}

struct Requirement {
    id: String,
    section: String,
    text: String,
    /// Why there is no test.
    excuse: Option<String>,
}

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("the workspace").to_owned()
}

fn requirements() -> Vec<Line> {
    let path = root().join("integration-tests/requirements/rfc9293.txt");
    let text = fs::read_to_string(path).expect("the list");
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("# "));
    lines
        .map(|line| {
            if let Some(section) = line.strip_prefix("== ") {
                return Line::Section(section.to_owned());
            }
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let [id, section, text, excuse] = cells[..] else {
                panic!("four columns: {line}");
            };
            assert!(is_id(id), "{line}");
            assert!(
                excuse.is_empty()
                    || excuse.starts_with("none: ")
                    || excuse.starts_with("not done: "),
                "{line}"
            );
            Line::Requirement(Requirement {
                id: id.to_owned(),
                section: section.to_owned(),
                text: text.to_owned(),
                excuse: (!excuse.is_empty()).then(|| excuse.to_owned()),
            })
        })
        .collect()
}

fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(kind, number)| {
        let is_number = !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit());
        KINDS.contains(&kind) && is_number
    })
}

fn ids(comment: &str) -> impl Iterator<Item = &str> {
    let words = comment.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    words.filter(|word| is_id(word))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut entries: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Where a test is, as one asks `cargo test` for it.
fn module(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("a source of ours");
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    // The package's folder, and `src` or `tests`.
    let inner = &parts[2..];
    let joined = inner.join("::");
    let name = joined.trim_end_matches(".rs").trim_end_matches("::mod");
    name.to_owned()
}

/// The tests of a source with the requirements that their comments name.
fn tests_of(path: &Path, shown: &mut BTreeMap<String, Vec<String>>) {
    let text = fs::read_to_string(path).expect("readable");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (at, line) in lines.iter().enumerate() {
        if !line.starts_with("#[test]") && !line.starts_with("#[tokio::test") {
            continue;
        }
        let above = lines[..at].iter().rev();
        let above = above.take_while(|line| line.starts_with("//") || line.starts_with("#["));
        let Some(header) = (at..lines.len()).find(|&at| lines[at].contains("fn ")) else {
            continue;
        };
        let name = lines[header].split("fn ").nth(1).unwrap_or_default();
        let name: String = name
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect();
        let body = (header..lines.len()).find(|&at| lines[at].ends_with('{'));
        let body = body.map_or(&[][..], |at| &lines[at + 1..]);
        let within = body.iter().take_while(|line| line.starts_with("//"));
        for id in above.chain(within).flat_map(|line| ids(line)) {
            let tests = shown.entry(id.to_owned()).or_default();
            let test = format!("{}::{name}", module(path));
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
    }
}

fn shown() -> BTreeMap<String, Vec<String>> {
    let mut found = Vec::new();
    for folder in ["netdev/src", "stack/src", "integration-tests/tests"] {
        sources(&root().join(folder), &mut found);
    }
    let mut shown = BTreeMap::new();
    let itself = root().join(file!());
    for path in found.iter().filter(|path| **path != itself) {
        tests_of(path, &mut shown);
    }
    shown
}

fn document(lines: &[Line], shown: &BTreeMap<String, Vec<String>>) -> String {
    let mut text = String::from(
        "# RFC 9293's requirements\n\n\
         Appendix B, as far as it concerns a host, in our own words, and the tests that show each. Written by\n\
         `TIDEWIRE_BLESS=1 cargo test -p tidewire-integration-tests --test requirements` from `integration-tests/requirements/rfc9293.txt`\n\
         and what the tests say of themselves.\n",
    );
    for line in lines {
        match line {
            Line::Section(name) => {
                write!(
                    text,
                    "\n## {name}\n\n| | | section | | test |\n|---|---|---|---|---|\n"
                )
            }
            Line::Requirement(requirement) => {
                let Requirement {
                    id,
                    section,
                    text: what,
                    excuse,
                } = requirement;
                let tests = shown.get(id).map(Vec::as_slice).unwrap_or_default();
                let named: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
                let (verdict, why) =
                    match excuse.as_deref().and_then(|excuse| excuse.split_once(": ")) {
                        Some(("not done", why)) => ("not done", why.to_owned()),
                        Some((_, why)) => ("–", why.to_owned()),
                        None => ("done", named.join(", ")),
                    };
                writeln!(text, "| {id} | {what} | {section} | {verdict} | {why} |")
            }
        }
        .expect("a string takes all");
    }
    text
}

#[test]
fn every_requirement_has_a_test_or_a_reason() {
    let lines = requirements();
    let shown = shown();
    let listed: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Requirement(requirement) => Some(requirement),
            Line::Section(_) => None,
        })
        .collect();
    let unknown: Vec<_> = shown
        .iter()
        .filter(|(id, _)| !listed.iter().any(|requirement| requirement.id == **id))
        .collect();
    assert!(
        unknown.is_empty(),
        "tests of what is not listed: {unknown:?}"
    );
    let missing: Vec<_> = listed
        .iter()
        .filter(|requirement| requirement.excuse.is_none() && !shown.contains_key(&requirement.id))
        .map(|requirement| format!("{}: {}", requirement.id, requirement.text))
        .collect();
    assert!(missing.is_empty(), "no test for {missing:#?}");
    let excused: Vec<_> = listed
        .iter()
        .filter(|requirement| requirement.excuse.is_some() && shown.contains_key(&requirement.id))
        .map(|requirement| &requirement.id)
        .collect();
    assert!(excused.is_empty(), "there are tests for {excused:?}");
    let musts = listed
        .iter()
        .filter(|requirement| requirement.id.starts_with("MUST-"));
    assert_eq!(musts.count(), 69, "RFC 9293 has as many");
}

#[test]
fn document_is_up_to_date() {
    let path = root().join("stack/src/tcp/REQUIREMENTS.md");
    let text = document(&requirements(), &shown());
    if std::env::var_os("TIDEWIRE_BLESS").is_some() {
        fs::write(&path, &text).expect("written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "TIDEWIRE_BLESS=1 cargo test -p tidewire-integration-tests --test requirements"
    );
}

#[test]
fn identifiers_are_found_in_comments() {
    let found: Vec<_> =
        ids("// RFC 9293 3.8.6.1 (MUST-36, SHLD-29), MUSTY-3, MAY-, REC-1.").collect();
    assert_eq!(found, ["MUST-36", "SHLD-29", "REC-1"]);
}
