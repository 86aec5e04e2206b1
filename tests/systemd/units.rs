//! What systemd-analyze has to say of the units.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::text;
use crate::machine::packaged;

/// systemd-analyze on a folder of the units, in which each has a command that is there.
fn analyze(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for unit in packaged() {
        let name = unit.file_name().unwrap().to_str().unwrap();
        std::fs::copy(&unit, folder.path().join(name)).unwrap();
        if name.ends_with(".service") {
            let drop_in = folder.path().join(format!("{name}.d"));
            std::fs::create_dir(&drop_in).unwrap();
            std::fs::write(drop_in.join("command.conf"), "[Service]\nExecStart=\nExecStart=/bin/true\n").unwrap();
        }
    }
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).current_dir(folder.path());
    command.env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display())).env("SYSTEMD_COLORS", "0");
    command.output().unwrap()
}

fn path_of(unit: &Path) -> String {
    format!("./{}", unit.file_name().unwrap().to_str().unwrap())
}

#[test]
fn they_are_well_formed() {
    for unit in packaged() {
        let output = analyze(&["verify", &path_of(&unit)]);
        let said = text(&output.stdout) + &text(&output.stderr);
        let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("mentiko")).collect();
        assert!(output.status.success() && about_ours.is_empty(), "{}: {said}", unit.display());
    }
}

#[test]
fn they_are_no_more_exposed_than_the_document_says() {
    let document = include_str!("../../docs/systemd.md");
    for unit in packaged().iter().filter(|unit| unit.extension().is_some_and(|extension| extension == "service")) {
        let output = analyze(&["security", "--offline=true", &path_of(unit)]);
        let said = text(&output.stdout) + &text(&output.stderr);
        let line =
            said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{said}"));
        let level: f32 = line.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let name = unit.file_name().unwrap().to_str().unwrap();
        let row = document.lines().find_map(|row| row.strip_prefix(&format!("| {name} | "))).unwrap();
        let documented: f32 = row.trim_end_matches(" |").parse().unwrap();
        // Each version of systemd counts a little differently.
        assert!(level <= documented + 0.3, "{line}");
    }
}
