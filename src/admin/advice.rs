//! How often a kind of secret is best rotated. Only ever said, never imposed.

use crate::policy::SecretName;
use crate::vault::Rotation;

/// Kinds by their names, the first that fits. A word counts wherever it stands in the name, in
/// capitals or not; with `_` at an end it must begin or end there.
const KINDS: &[(&str, Rotation, &[&str])] = &[
    ("webhooks", Rotation::Quarterly, &["WEBHOOK"]),
    (
        "LLM keys",
        Rotation::Monthly,
        &[
            "OPENAI", "ANTHROPIC", "CLAUDE", "GEMINI", "MISTRAL", "COHERE", "DEEPSEEK", "OPENROUTER", "PERPLEXITY",
            "HUGGINGFACE", "HUGGING_FACE", "_HF_", "_GROQ_", "_XAI_", "_LLM_",
        ],
    ),
    ("payment keys", Rotation::Quarterly, &["STRIPE", "PAYPAL", "BRAINTREE", "_ADYEN_"]),
    ("cloud keys", Rotation::Quarterly, &["_AWS_", "_GCP_", "AZURE", "GOOGLE_CLOUD", "CLOUDFLARE", "DIGITALOCEAN"]),
    ("code host tokens", Rotation::Quarterly, &["GITHUB", "_GH_", "GITLAB", "BITBUCKET"]),
    ("registry tokens", Rotation::Quarterly, &["_NPM_", "PYPI", "CARGO_REGISTRY", "DOCKERHUB", "DOCKER_HUB"]),
    ("bot tokens", Rotation::Quarterly, &["SLACK", "DISCORD", "TELEGRAM", "_BOT_"]),
    (
        "database passwords",
        Rotation::Quarterly,
        &["DATABASE", "POSTGRES", "_PGPASS", "MYSQL", "MARIADB", "MONGO", "_REDIS_", "_DB_", "_DSN_"],
    ),
    ("private keys", Rotation::Yearly, &["PRIVATE_KEY", "SIGNING_KEY", "_SSH_", "_GPG_", "_PGP_"]),
];

/// The kind that a name speaks of, and its period.
fn kind(name: &str) -> Option<(&'static str, Rotation)> {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name = format!("_{}_", name.chars().map(letter).collect::<String>());
    let fits = |words: &[&str]| words.iter().any(|word| name.contains(word));
    KINDS.iter().find(|(_, _, words)| fits(words)).map(|(kind, period, _)| (*kind, *period))
}

/// The line for a secret that has no schedule, where its name tells its kind.
pub(super) fn line(name: &SecretName) -> Option<String> {
    let (kind, period) = kind(name.as_str())?;
    Some(format!("advice: {kind} are best rotated {period}: mentiko secret schedule {name} {period}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_kind() {
        for (name, expected) in [
            ("OPENAI_API_KEY", "LLM keys monthly"),
            ("anthropic/team-a", "LLM keys monthly"),
            ("MY_OPENAI_KEY_2", "LLM keys monthly"),
            ("HF_TOKEN", "LLM keys monthly"),
            ("XAI_API_KEY", "LLM keys monthly"),
            ("SLACK_WEBHOOK", "webhooks quarterly"),
            ("slack/webhooks.marketing", "webhooks quarterly"),
            ("OPENAI_WEBHOOK_SECRET", "webhooks quarterly"),
            ("STRIPE_API_KEY", "payment keys quarterly"),
            ("AWS_SECRET_ACCESS_KEY", "cloud keys quarterly"),
            ("GH_TOKEN", "code host tokens quarterly"),
            ("NPM_TOKEN", "registry tokens quarterly"),
            ("SLACK_BOT_TOKEN", "bot tokens quarterly"),
            ("PGPASSWORD", "database passwords quarterly"),
            ("prod-db.password", "database passwords quarterly"),
            ("DEPLOY_SSH_KEY", "private keys yearly"),
            ("PGP_KEY", "private keys yearly"),
        ] {
            let (kind, period) = kind(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(format!("{kind} {period}"), expected, "{name}");
        }
    }

    #[test]
    fn other_names_tell_nothing() {
        for name in ["A", "API_KEY", "LAWS_KEY", "FEEDBACK_TOKEN", "HIGHEST", "SHELFIE", "ROBOT", "REDISTRIBUTION_KEY"]
        {
            assert_eq!(kind(name), None, "{name}");
        }
    }

    #[test]
    fn words_are_such_as_names_are_compared_with() {
        let fits = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
        assert!(KINDS.iter().flat_map(|(_, _, words)| *words).all(|word| word.bytes().all(fits)));
    }
}
