// An agent that asks one question through Anthropic's client and prints the answer.

import Anthropic from "@anthropic-ai/sdk";

// The client looks for ANTHROPIC_API_KEY itself, as in any agent. A failure is to be seen at once.
const client = new Anthropic({ maxRetries: 0, timeout: 60_000 });
const message = await client.messages.create({
  model: "claude-test",
  max_tokens: 100,
  messages: [{ role: "user", content: "What is the answer?" }],
});
console.log(message.content[0].text);
