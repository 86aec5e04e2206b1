//! Any text as instance.json: what is taken says what it was taken for.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mentiko_exec::fuzzing::instance::parse;
use mentiko_exec::instance::KeySource;
use mentiko_exec::text::printable;
use serde_json::Value;

fuzz_target!(|text: &[u8]| {
    let instance = match parse(Path::new("/i"), text) {
        Ok(instance) => instance,
        Err(error) => {
            assert!(!printable(&error).contains(char::is_control));
            return;
        }
    };
    let value: Value = serde_json::from_slice(text).expect("not JSON, and taken all the same");
    let members = value.as_object().unwrap();
    let known = ["version", "instance", "key", "vault", "chains", "audit", "runs", "policy"];
    assert!(members.keys().all(|name| known.contains(&name.as_str())));
    assert_eq!(members["version"], 1);
    assert_eq!(members["instance"].as_str().unwrap().to_ascii_lowercase(), instance.id.to_string());
    for (name, path) in [
        ("vault", &instance.vault),
        ("chains", &instance.chains),
        ("audit", &instance.audit),
        ("runs", &instance.runs),
    ] {
        let text = members[name].as_str().unwrap();
        assert!(!text.is_empty() && path.is_absolute());
        assert_eq!(*path, Path::new("/i").join(text));
    }
    let key = &members["key"];
    match &instance.key {
        KeySource::File(path) => assert_eq!(*path, Path::new("/i").join(key["path"].as_str().unwrap())),
        KeySource::SystemdCredential(name) => {
            assert_eq!(name, key["name"].as_str().unwrap());
            assert!(!name.contains('/') && name != "..");
        }
        KeySource::Command(argv) => assert!(argv[0].starts_with('/') && key["argv"].as_array().unwrap().len() == argv.len()),
        KeySource::Passphrase => assert_eq!(key["source"], "passphrase"),
    }
});
