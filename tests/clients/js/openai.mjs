// The `openai` package: chat completions (with its tool runner) or responses.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { asked, run, variant, weather } from "./run.mjs";

const messages = [{ role: "user", content: asked.question }];
const Weather = z.object({ city: z.string(), raining: z.boolean() });
const opened = ({ url, key }) => new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });

async function chatTools(at, stream) {
  const calls = [];
  const look = (input) => (calls.push(["weather", input]), weather(input));
  const tool = { type: "function", function: { name: "weather", parse: JSON.parse, parameters: asked.parameters, function: look } };
  const runner = opened(at).chat.completions.runTools({ model: at.model, messages, tools: [tool], parallel_tool_calls: true, stream });
  return { calls, said: await runner.finalContent() };
}

const chat = {
  chat: async (at) => (await opened(at).chat.completions.create({ model: at.model, messages })).choices[0].message.content,
  stream: async (at) => {
    let text = "";
    for await (const chunk of await opened(at).chat.completions.create({ model: at.model, messages, stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
    return text;
  },
  tools: (at) => chatTools(at, false),
  streamedTools: (at) => chatTools(at, true),
  structured: async (at) => {
    const reply = await opened(at).chat.completions.parse({ model: at.model, messages, response_format: zodResponseFormat(Weather, "weather") });
    return reply.choices[0].message.parsed;
  },
  image: async (at) => {
    const content = [{ type: "text", text: asked.question }, { type: "image_url", image_url: { url: asked.picture } }];
    return (await opened(at).chat.completions.create({ model: at.model, messages: [{ role: "user", content }] })).choices[0].message.content;
  },
};

async function responseTools(at, stream) {
  const client = opened(at);
  const common = { model: at.model, tools: [{ type: "function", name: "weather", parameters: asked.parameters, strict: true }], parallel_tool_calls: true };
  const ask = async (input) => (stream ? client.responses.stream({ ...common, input }).finalResponse() : client.responses.create({ ...common, input }));
  const first = await ask(messages);
  const made = first.output.filter((item) => item.type === "function_call");
  const results = made.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: weather(JSON.parse(call.arguments)) }));
  const last = await ask([...messages, ...first.output, ...results]);
  return { calls: made.map((call) => [call.name, JSON.parse(call.arguments)]), said: last.output_text };
}

const responses = {
  chat: async (at) => (await opened(at).responses.create({ model: at.model, input: asked.question })).output_text,
  stream: async (at) => {
    let text = "";
    for await (const event of await opened(at).responses.create({ model: at.model, input: asked.question, stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    return text;
  },
  tools: (at) => responseTools(at, false),
  streamedTools: (at) => responseTools(at, true),
  structured: async (at) =>
    (await opened(at).responses.parse({ model: at.model, input: asked.question, text: { format: zodTextFormat(Weather, "weather") } })).output_parsed,
  image: async (at) => {
    const content = [{ type: "input_text", text: asked.question }, { type: "input_image", image_url: asked.picture, detail: "auto" }];
    return (await opened(at).responses.create({ model: at.model, input: [{ role: "user", content }] })).output_text;
  },
};

await run({ chat, responses }[variant]);
