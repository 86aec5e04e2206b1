//! OpenAI's client for Python.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{ANSWER, Client, FIRST_KEY, granted_versions, installed, only_the_granted_agent_has_the_key, step};

#[test]
fn only_the_granted_agent_has_the_key_of_openai() {
    only_the_granted_agent_has_the_key(&client());
}

#[test]
fn the_key_can_be_delivered_in_a_file() {
    let client = client();
    let (site, server) = client.stage();
    client.succeeds(&site, &server, &["--deliver", "file"], &[FIRST_KEY]);
    assert_eq!(granted_versions(&site, client.secret), [1]);
}

fn client() -> Client {
    let folder = installed("openai", "openai==3.57.0", ("agent.py", include_str!("agent.py")), install);
    Client {
        programs: Some(folder.join("python/bin")),
        folder,
        command: ["python", "agent.py"],
        secret: "OPENAI_API_KEY",
        base_url: ("OPENAI_BASE_URL", "/v1"),
        header: ("authorization", "Bearer "),
        path: "/v1/chat/completions",
        answer: json!({
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_750_000_000,
            "model": "gpt-test",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER},
                "finish_reason": "stop",
            }],
            "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
        }),
        complaint: "OPENAI_API_KEY",
    }
}

/// Makes `python/bin/python`, which finds the package: in a virtual environment, or, where no
/// python3 can make one, beside the agent, where Python looks first.
fn install(folder: &Path, package: &str) {
    let program = folder.join("python/bin/python");
    let mut errors = Vec::new();
    for python in pythons() {
        let made = step(python, &["-m", "venv", "--clear", "python"], folder);
        match made.and_then(|()| step(&program, &["-m", "pip", "install", package], folder)) {
            Ok(()) => return,
            Err(error) => errors.push(error),
        }
    }
    for python in pythons() {
        match step(&python, &["-m", "pip", "install", "--target", ".", package], folder) {
            Ok(()) => {
                let _ = std::fs::remove_dir_all(folder.join("python"));
                std::fs::create_dir_all(folder.join("python/bin")).unwrap();
                return symlink(python, program).unwrap();
            }
            Err(error) => errors.push(error),
        }
    }
    let errors = errors.join("\n");
    panic!("this test needs Python 3.10 or later with venv (Debian: python3, python3-venv) and PyPI\n{errors}");
}

/// Every python3 of PATH, then the system's. The first can be another user's, or have no venv.
fn pythons() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let folders = std::env::split_paths(&path).chain(["/usr/bin".into()]);
    folders.map(|folder| folder.join("python3")).filter(|python| python.exists()).collect()
}
