//! OpenAI's client for Python.

use serde_json::json;

use crate::packages::{installed, pip};
use crate::{ANSWER, Client, FIRST_KEY, granted_versions, only_the_granted_agent_has_the_key};

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
    let folder = installed("openai", &["openai==3.57.0"], &[("agent.py", include_str!("agent.py"))], pip);
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
