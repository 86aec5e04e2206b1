//! The vendors' own clients, as their registries hand them out, in agents that know nothing of
//! this project: the one that was granted the key authenticates with it, the other has none.
//!
//! These tests need Python and Node.js with npm, and the registries PyPI and npm or mirrors of
//! them. What they install stays in a private folder and is used again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/packages.rs"]
mod packages;

mod anthropic;
mod openai;
mod server;

use std::path::PathBuf;
use std::process::Output;

use common::{Site, text};
use serde_json::Value;
use server::Server;

const FIRST_KEY: &str = "sk-first-Ab_4711";
const SECOND_KEY: &str = "sk-second-Cd_0815";
/// What the caller exports, which no agent may see.
const STALE_KEY: &str = "sk-stale-Ef_1234";
const ANSWER: &str = "The answer is 42.";

/// A vendor's client, installed beside the agent that uses it.
struct Client {
    folder: PathBuf,
    /// The agent's command, run in the folder.
    command: [&'static str; 2],
    /// The folder of the command's program, where it is not in PATH.
    programs: Option<PathBuf>,
    /// The secret and the variable from which the client takes its key.
    secret: &'static str,
    /// The variable that leads the client to our server, and what follows the server's address.
    base_url: (&'static str, &'static str),
    /// The header with the key, and what stands before it.
    header: (&'static str, &'static str),
    /// The path that the client asks, and what a vendor answers.
    path: &'static str,
    answer: Value,
    /// What the client's complaint mentions when it finds no key.
    complaint: &'static str,
}

impl Client {
    /// An instance whose chain `c` grants the key to its researcher alone, and the server.
    fn stage(&self) -> (Site, Server) {
        let (site, secret) = (Site::new(), self.secret);
        site.set(secret, FIRST_KEY);
        site.set("SEARCH_KEY", "search-5678");
        site.chain(
            "c",
            &format!(
                r#"{{"secrets": ["{secret}", "SEARCH_KEY"],
                     "agents": {{"researcher": ["{secret}"], "writer": ["SEARCH_KEY"]}}}}"#
            ),
        );
        (site, Server::start(self.path, &self.answer))
    }

    /// `mentiko-exec --chain c --agent AGENT OPTIONS -- COMMAND`
    fn launch(&self, site: &Site, server: &Server, agent: &str, options: &[&str]) -> Output {
        let (base_url, rest) = self.base_url;
        let path = std::env::var_os("PATH").unwrap();
        let path = self.programs.iter().cloned().chain(std::env::split_paths(&path));
        site.exec("c", agent)
            .args(options)
            .arg("--")
            .args(self.command)
            .current_dir(&self.folder)
            .env("PATH", std::env::join_paths(path).unwrap())
            // Not the user's own: clients look there for credentials too.
            .env("HOME", &self.folder)
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .env(base_url, server.url() + rest)
            .env(self.secret, STALE_KEY)
            .output()
            .unwrap()
    }

    /// A launch whose client gets its answer, with this key in all requests to the server so far.
    fn succeeds(&self, site: &Site, server: &Server, options: &[&str], keys: &[&str]) {
        let output = self.launch(site, server, "researcher", options);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).trim_end(), ANSWER);
        let (header, prefix) = self.header;
        let expected: Vec<String> = keys.iter().map(|key| format!("{prefix}{key}")).collect();
        assert_eq!(server.received(header), expected);
    }
}

/// What is shown of every client.
fn only_the_granted_agent_has_the_key(client: &Client) {
    let (site, server) = client.stage();
    client.succeeds(&site, &server, &[], &[FIRST_KEY]);

    let output = client.launch(&site, &server, "writer", &[]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains(client.complaint), "{complaint}");
    assert_eq!(server.received(client.header.0).len(), 1, "the writer's client asked without a key");

    // The next launch has the new value; nothing else had to change.
    site.set(client.secret, SECOND_KEY);
    client.succeeds(&site, &server, &[], &[FIRST_KEY, SECOND_KEY]);
    assert_eq!(granted_versions(&site, client.secret), [1, 2]);
}

/// The versions of this secret in the log's grants, which went to the researcher alone. The log
/// verifies and holds no key.
fn granted_versions(site: &Site, secret: &str) -> Vec<u64> {
    site.verify();
    for line in site.log() {
        let line = line.to_string();
        assert!(![FIRST_KEY, SECOND_KEY, STALE_KEY].iter().any(|key| line.contains(key)), "{line}");
    }
    let accesses = site.accesses().into_iter().filter(|access| access["secret"] == secret);
    accesses
        .map(|access| {
            assert_eq!((&access["agent"], &access["outcome"]), (&"researcher".into(), &"granted".into()));
            access["version"].as_u64().unwrap()
        })
        .collect()
}
