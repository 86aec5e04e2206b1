// Checks each line of standard input against the fields of Elastic Common Schema as Elastic
// publishes them for programs: names, types, arrays, allowed values, expected types of a category.
import assert from "node:assert";
import readline from "node:readline";
import { EcsFlat, EcsVersion } from "@elastic/ecs";

const NAMESPACE = "mentiko";
assert(!Object.keys(EcsFlat).some((field) => field.split(".")[0] === NAMESPACE));

const DATE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/;
const CHECKS = {
  keyword: (value) => typeof value === "string",
  match_only_text: (value) => typeof value === "string",
  wildcard: (value) => typeof value === "string",
  // Beyond 2^53 this reader sees a rounded number; Elasticsearch refuses what is beyond 2^63.
  long: (value) => Number.isInteger(value) && Math.abs(value) <= 2 ** 63,
  date: (value) => DATE.test(value) && !Number.isNaN(Date.parse(value)),
};

function* leaves(value, path = []) {
  for (const [key, inner] of Object.entries(value)) {
    const here = [...path, key];
    if (inner !== null && typeof inner === "object" && !Array.isArray(inner)) yield* leaves(inner, here);
    else yield [here.join("."), inner];
  }
}

function checkField(name, value) {
  const field = EcsFlat[name];
  assert(field, `${name} is no field of ECS ${EcsVersion}`);
  assert.equal(Array.isArray(value), field.normalize.includes("array"), `${name}: array or not`);
  for (const element of [value].flat()) {
    assert(CHECKS[field.type]?.(element), `${name}: ${JSON.stringify(element)} is no ${field.type}`);
    const allowed = field.allowed_values?.map((allowed) => allowed.name);
    assert(!allowed || allowed.includes(element), `${name}: ${element} is none of ${allowed}`);
  }
}

function check(event) {
  assert.equal(event.ecs.version, EcsVersion);
  for (const [name, value] of leaves(event)) {
    if (name.startsWith(`${NAMESPACE}.`)) assert(["string", "number"].includes(typeof value), name);
    else checkField(name, value);
  }
  for (const category of event.event.category ?? []) {
    const expected = EcsFlat["event.category"].allowed_values.find(({ name }) => name === category).expected_event_types;
    for (const type of event.event.type) assert(expected.includes(type), `${category} does not expect ${type}`);
  }
  for (const required of ["@timestamp", "message"]) assert(event[required] !== undefined, required);
}

let lines = 0;
for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  lines += 1;
  try {
    check(JSON.parse(line));
  } catch (error) {
    console.error(`line ${lines}: ${error.message}\n${line.slice(0, 2000)}`);
    process.exitCode = 1;
  }
}
console.log(lines);
