// LangChain's ChatOpenAI, over chat completions or responses.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { asked, run, variant, weather } from "./run.mjs";

const Weather = z.object({ city: z.string(), raining: z.boolean() });
const tool = { type: "function", function: { name: "weather", parameters: asked.parameters } };
const question = new HumanMessage(asked.question);
const model = (at) =>
  new ChatOpenAI({ model: at.model, apiKey: at.key, configuration: { baseURL: at.url }, maxRetries: 0, useResponsesApi: variant === "responses" });

async function gathered(stream) {
  let whole;
  for await (const piece of await stream) whole = whole ? whole.concat(piece) : piece;
  return whole;
}

async function tools(at, ask) {
  const bound = model(at).bindTools([tool], { parallel_tool_calls: true });
  const said = await ask(bound, [question]);
  const results = said.tool_calls.map((call) => new ToolMessage({ content: weather(call.args), tool_call_id: call.id }));
  const last = await ask(bound, [question, said, ...results]);
  return { calls: said.tool_calls.map((call) => [call.name, call.args]), said: last.text };
}

await run({
  chat: async (at) => (await model(at).invoke([question])).text,
  stream: async (at) => (await gathered(model(at).stream([question]))).text,
  tools: (at) => tools(at, (bound, messages) => bound.invoke(messages)),
  streamedTools: (at) => tools(at, (bound, messages) => gathered(bound.stream(messages))),
  structured: (at) => model(at).withStructuredOutput(Weather, { method: "jsonSchema" }).invoke([question]),
  image: async (at) => {
    const content = [{ type: "text", text: asked.question }, { type: "image_url", image_url: { url: asked.picture } }];
    return (await model(at).invoke([new HumanMessage({ content })])).text;
  },
});
