//! Replays the committed fuzz corpora: whatever a fuzzer found worth keeping holds with a stable compiler too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tidewire_integration_tests::fuzz_targets::TARGETS;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.expect("a folder entry").path();
            let stem = path.file_stem().expect("a name");
            stem.to_string_lossy().into_owned()
        })
        .collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz_folder().join("fuzz_targets")), targets);
    assert_eq!(names(&fuzz_folder().join("corpus")), targets);
}

#[test]
fn corpora_hold() {
    for (name, body) in TARGETS {
        let folder = fuzz_folder().join("corpus").join(name);
        let mut count = 0;
        for entry in fs::read_dir(&folder).expect("a corpus") {
            let path = entry.expect("a folder entry").path();
            let data = fs::read(&path).expect("a readable file");
            // Shown when the body panics.
            println!("{}", path.display());
            body(&data);
            count += 1;
        }
        assert!(count > 0, "{} is empty", folder.display());
    }
}

#[test]
fn targets_hold_for_nothing_and_for_constant_octets() {
    for (_, body) in TARGETS {
        for octet in [0x00, 0x45, 0x60, 0xff] {
            for len in [0, 1, 7, 8, 20, 40, 64, 1500] {
                body(&vec![octet; len]);
            }
        }
    }
}
