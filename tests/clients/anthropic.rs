//! Anthropic's client for Node.js.

use serde_json::json;

use crate::packages::{installed, npm};
use crate::{ANSWER, Client, only_the_granted_agent_has_the_key};

#[test]
fn only_the_granted_agent_has_the_key_of_anthropic() {
    only_the_granted_agent_has_the_key(&client());
}

fn client() -> Client {
    Client {
        folder: installed("anthropic", &["@anthropic-ai/sdk@1.13.0"], &[("agent.mjs", include_str!("agent.mjs"))], npm),
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
