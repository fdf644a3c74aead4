// What the programs for Node share: the checks one after another, and what they compare with.
//
// Usage of each program: PROGRAM PORT NAME, in the folder of the libraries, where NAME says which
// server is at the port (`server_async`, or `redis-server` for the reference).

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import readline from 'node:readline';

export const PORT = Number(process.argv[2]);
export const IS_REFERENCE = process.argv[3] === 'redis-server';
export const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
/** Generous: it bounds a failure, not a speed. */
const PATIENCE_MS = 60_000;

/** Loads from the folder that the program runs in, where the libraries are. */
export const require = createRequire(`${process.cwd()}/`);

/** Fails unless both are the same by value and type. Maps without a prototype are as others. */
export function equal(found, wanted, what) {
  assert.deepEqual(plain(found), wanted, what);
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value && Object.getPrototypeOf(value) === null) return { ...value };
  return value;
}

/** Fails, telling `what` and `found`, unless `holds`. */
export function ok(holds, what, found) {
  assert.ok(holds, `${what}: ${JSON.stringify(found)}`);
}

/** The error of the class `kind` that `promise` ends with; it says `text`. */
export async function fails(kind, promise, text) {
  let result;
  try {
    result = await promise;
  } catch (error) {
    assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
    assert.ok(error.message.includes(text), `${error.message} does not say ${text}`);
    return error;
  }
  throw new Error(`no ${kind.name}, but ${JSON.stringify(result)}`);
}

/** Waits until `holds()`. */
export async function eventually(what, holds) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Has the server killed and started again; resolves when it serves. */
export async function restart() {
  console.log('restart');
  const input = readline.createInterface({ input: process.stdin });
  await new Promise((resolve) => input.once('line', resolve));
  input.close();
}

/** Runs the checks in their order and ends the process: with 0 when all is well. */
export async function run(checks) {
  let at = 'nothing yet';
  // A reply that never comes ends the run.
  setTimeout(() => {
    console.error(`no end of: ${at}`);
    process.exit(1);
  }, 2 * PATIENCE_MS);
  try {
    for (const check of checks) {
      const began = Date.now();
      at = check.name;
      process.stdout.write(`${at} `);
      await check();
      console.log(`(${Date.now() - began} ms)`);
    }
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
  process.exit(0);
}
