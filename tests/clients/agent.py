"""An agent that asks one question through OpenAI's client and prints the answer."""

import os

import openai

# None: the client looks for OPENAI_API_KEY itself, as in any agent.
key = None
if path := os.environ.get("OPENAI_API_KEY_FILE"):
    assert "OPENAI_API_KEY" not in os.environ
    with open(path, encoding="utf-8") as file:
        key = file.read()

# A failure is to be seen at once.
client = openai.OpenAI(api_key=key, max_retries=0, timeout=60)
completion = client.chat.completions.create(
    model="gpt-test",
    messages=[{"role": "user", "content": "What is the answer?"}],
)
print(completion.choices[0].message.content)
