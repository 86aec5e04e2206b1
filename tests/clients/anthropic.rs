//! Anthropic's client for Node.js.

use std::path::Path;

use serde_json::json;

use crate::{ANSWER, Client, installed, only_the_granted_agent_has_the_key, step};

#[test]
fn only_the_granted_agent_has_the_key_of_anthropic() {
    only_the_granted_agent_has_the_key(&client());
}

fn client() -> Client {
    let agent = ("agent.mjs", include_str!("agent.mjs"));
    Client {
        folder: installed("anthropic", "@anthropic-ai/sdk@1.13.0", agent, install),
        command: ["node", "agent.mjs"],
        programs: None,
        secret: "ANTHROPIC_API_KEY",
        base_url: ("ANTHROPIC_BASE_URL", ""),
        // Versions before 1.0 send the key as `x-api-key`.
        header: ("authorization", "Bearer "),
        path: "/v1/messages",
        answer: json!({
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-test",
            "content": [{"type": "text", "text": ANSWER}],
            "stop_reason": "end_turn",
            "stop_sequence": null,
            "usage": {"input_tokens": 5, "output_tokens": 6},
        }),
        complaint: "apiKey",
    }
}

fn install(folder: &Path, package: &str) {
    let arguments = ["install", "--prefix", ".", "--ignore-scripts", "--no-audit", "--no-fund", package];
    let made = step("node", &["--version"], folder).and_then(|()| step("npm", &arguments, folder));
    if let Err(error) = made {
        panic!("this test needs Node.js and npm (Debian: nodejs, npm) and npm's registry\n{error}");
    }
}
