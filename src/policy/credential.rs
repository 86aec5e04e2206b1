//! Recognizing a credential that was pasted where only a name belongs.

/// How issuers begin their keys, by how many characters of a key follow at the least.
const ISSUED: &[(usize, &[&str])] = &[
    (
        16,
        &[
            "sk_live_", "sk_test_", "rk_live_", "pk_live_", "whsec_", "glpat-", "xoxb-", "xoxp-", "xoxa-", "xapp-",
            "AKIA", "ASIA",
        ],
    ),
    (20, &["sk-", "ya29.", "hf_", "gsk_", "xai-", "r8_", "pplx-", "lin_api_", "eyJhbGciOi"]),
    (30, &["ghp_", "gho_", "ghu_", "ghs_", "github_pat_", "AIza", "npm_", "pypi-", "dop_v1_", "SG."]),
    (40, &["AGE-SECRET-KEY-1"]),
];

/// Whether some word of the text has the shape of an issued credential.
pub fn looks_like_credential(text: &str) -> bool {
    text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----")
        || text.contains("hooks.slack.com/services/T")
        || text.split(|c: char| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.')).any(is_issued)
}

fn is_issued(word: &str) -> bool {
    ISSUED.iter().any(|(length, prefixes)| {
        let mut bodies = prefixes.iter().filter_map(|prefix| Some((prefix, word.strip_prefix(prefix)?)));
        // Words joined by dashes ("sk-learn-pipeline-of-mine") have no digit.
        let has_digit = |body: &str| body.contains(|c: char| c.is_ascii_digit());
        bodies.any(|(prefix, body)| body.len() >= *length && (has_digit(body) || prefix.starts_with("AGE")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issued_shapes_are_found_inside_text() {
        for text in [
            "sk-proj-4f9aK2mQx81LzP0aYtR7",
            "use sk-ant-api03-4f9aK2mQx81LzP0aYtR7 here",
            "key=AKIAIOSFODNN7EXAMPLE",
            "https://hooks.slack.com/services/T0/B0/x",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nabc",
        ] {
            assert!(looks_like_credential(text), "{text}");
        }
    }

    #[test]
    fn ordinary_words_are_left_alone() {
        for text in [
            "OPENAI_API_KEY",
            "slack/marketing",
            "sk-learn-pipeline-of-the-marketing-team",
            "Summarize the risk-adjusted returns of 2024 and write a report",
            "task-1234567890-abcdefghijklmnop",
            "sk-1",
            "",
            "-----BEGIN CERTIFICATE-----",
            "no PRIVATE KEY-----",
        ] {
            assert!(!looks_like_credential(text), "{text}");
        }
    }
}
