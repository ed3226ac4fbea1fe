// Vercel's AI SDK with its provider for compatible endpoints, or OpenAI's own over chat completions or responses.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { asked, run, variant, weather } from "./run.mjs";

const Weather = z.object({ city: z.string(), raining: z.boolean() });
const provider = {
  compatible: ({ url, key }) => createOpenAICompatible({ name: "graph", baseURL: url, apiKey: key, supportsStructuredOutputs: true, includeUsage: true }),
  chat: ({ url, key }) => createOpenAI({ baseURL: url, apiKey: key }).chat,
  responses: ({ url, key }) => createOpenAI({ baseURL: url, apiKey: key }).responses,
}[variant];
const common = (at) => ({ model: provider(at)(at.model), maxRetries: 0 });

async function streamed(options) {
  const failures = [];
  const stream = streamText({ ...options, onError: ({ error }) => failures.push(error) });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  if (failures.length) throw failures[0];
  return text;
}

async function tools(at, ask) {
  const calls = [];
  const look = tool({ inputSchema: z.object({ city: z.string() }), execute: (input) => (calls.push(["weather", input]), weather(input)) });
  const said = await ask({ ...common(at), prompt: asked.question, tools: { weather: look }, stopWhen: stepCountIs(3) });
  return { calls, said };
}

await run({
  chat: async (at) => (await generateText({ ...common(at), prompt: asked.question })).text,
  stream: (at) => streamed({ ...common(at), prompt: asked.question }),
  tools: (at) => tools(at, async (options) => (await generateText(options)).text),
  streamedTools: (at) => tools(at, streamed),
  structured: async (at) => (await generateText({ ...common(at), prompt: asked.question, output: Output.object({ schema: Weather }) })).output,
  image: async (at) => {
    const content = [{ type: "text", text: asked.question }, { type: "image", image: asked.picture }];
    return (await generateText({ ...common(at), messages: [{ role: "user", content }] })).text;
  },
});
