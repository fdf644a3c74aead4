// What programs do with ioredis, done to the server at a port. Usage: see check.mjs.

import {
  ALL_BYTES, IS_REFERENCE, PORT, equal, eventually, fails, ok, require, restart, run,
} from './check.mjs';

const { Redis, ReplyError } = require('ioredis');
const { version } = require('ioredis/package.json');

/** A client as the library makes it by default, and the options given. It connects by itself. */
function connect(options = {}) {
  const made = new Redis(PORT, options);
  // Without a listener it writes to the console; what matters is told by the calls too.
  made.on('error', () => {});
  return made;
}

const client = connect();

async function connects_with_resp3() {
  equal(await client.ping(), 'PONG');
  const about = await client.client('INFO');
  if (!IS_REFERENCE) {
    for (const part of [' resp=3 ', ' lib-name=ioredis ', ` lib-ver=${version}`]) {
      ok(about.includes(part), part, about);
    }
  }
  const old = connect({ protocol: 2 });
  equal(await old.call('CONFIG', 'GET', 'databases'), ['databases', '16']);
  equal(await old.get('absent'), null);
  old.disconnect();
}

async function strings() {
  equal(await client.set('bytes', ALL_BYTES), 'OK');
  equal(await client.getBuffer('bytes'), ALL_BYTES);
  equal(await client.set(ALL_BYTES, ''), 'OK');
  equal(await client.get(ALL_BYTES), '');
  equal(await client.set('größe:漢字', 'naïve 🦀 ответ'), 'OK');
  equal(await client.get('größe:漢字'), 'naïve 🦀 ответ');
  equal(await client.getrangeBuffer('bytes', 10, 12), Buffer.from('\n\x0b\x0c'));
  equal(await client.append('bytes', '\r\n'), 258);
  equal(await client.strlen('bytes'), 258);
  equal(await client.get('absent'), null);
  equal(await client.mset({ a: 1, 'b\r\n': '\0', c: 1.5 }), 'OK');
  equal(await client.mget('a', 'b\r\n', 'absent', 'c'), ['1', '\0', null, '1.5']);
  equal(await client.set('a', 2, 'NX'), null);
  equal(await client.set('a', 2, 'GET'), '1');
  equal(await client.incrby('a', 40), 42);
  equal(await client.incrbyfloat('c', 0.25), '1.75');
  equal(await client.setbit('bits', 7, 1), 0);
  equal(await client.bitcount('bits'), 1);
  equal(await client.bitfield('bits', 'GET', 'u8', 0, 'INCRBY', 'u8', 0, 1), [1, 2]);
  equal(await client.getdel('a'), '42');
  equal(await client.exists('a', 'c', 'c'), 2);
  equal(await client.type('c'), 'string');
  equal(await client.rename('c', 'd'), 'OK');
  equal(await client.copy('d', 'e'), 1);
  equal(await client.lcs('d', 'e', 'LEN'), 4);
  equal(await client.unlink('d', 'e', 'absent'), 2);
  await fails(ReplyError, client.incr('bytes'), 'value is not an integer or out of range');
}

async function large_values() {
  const large = Buffer.concat(Array(20_480).fill(ALL_BYTES));
  equal(await client.set('large', large), 'OK');
  ok(large.equals(await client.getBuffer('large')), '5 MiB there and back', large.length);
  equal(await client.strlen('large'), large.length);
  equal(await client.del('large'), 1);
}

async function pipelines() {
  const numbers = Array.from({ length: 1_000 }, (_, number) => number);
  const pipeline = client.pipeline();
  numbers.forEach((number) => pipeline.set(`p:${number}`, number).get(`p:${number}`));
  const wanted = numbers.flatMap((number) => [[null, 'OK'], [null, `${number}`]]);
  equal(await pipeline.exec(), wanted);
  const mixed = client.pipeline().set('text', 'x').incr('text').get('text').call('NOSUCH');
  const replies = await mixed.exec();
  equal(replies.map(([, reply]) => reply), ['OK', undefined, 'x', undefined]);
  ok(replies[1][0] instanceof ReplyError, 'its error', replies[1]);
  ok(replies[3][0].message.includes("unknown command 'NOSUCH'"), 'its error', replies[3]);
  const automatic = connect({ enableAutoPipelining: true });
  const counted = await Promise.all(numbers.map(() => automatic.incr('counted')));
  equal(counted, numbers.map((number) => number + 1));
  automatic.disconnect();
}

async function transactions() {
  await client.set('balance', 10);
  equal(await client.multi().incr('balance').get('balance').exec(), [[null, 11], [null, '11']]);
  const own = connect();
  const change = async (meddle) => {
    await own.watch('balance');
    const seen = Number(await own.get('balance'));
    await meddle();
    return own.multi().set('balance', 2 * seen).exec();
  };
  equal(await change(() => {}), [[null, 'OK']]);
  equal(await change(() => client.set('balance', 5)), null, 'the other one came first');
  equal(await client.get('balance'), '5');
  // One command at a time, as it comes.
  equal(await own.multi({ pipeline: false }), 'OK');
  equal(await own.set('balance', 6), 'QUEUED');
  equal(await own.exec(), [[null, 'OK']]);
  own.disconnect();
  const bad = client.multi().set('balance', 1).call('NOSUCH').exec();
  const error = await fails(ReplyError, bad, 'EXECABORT');
  ok(error.previousErrors[0].message.includes("command 'NOSUCH'"), 'the reason', error);
  equal(await client.get('balance'), '6', 'nothing of it was done');
  const late = await client.multi().incr('balance').incr('text').incr('balance').exec();
  equal(late.map(([, reply]) => reply), [7, undefined, 8], 'what stands around an error is done');
  ok(late[1][0] instanceof ReplyError, 'its error', late);
}

async function scans() {
  const names = Array.from({ length: 10_000 }, (_, number) => `scan:${number}`);
  const pipeline = client.pipeline();
  names.forEach((name) => pipeline.set(name, ''));
  await pipeline.exec();
  for (const options of [{}, { count: 1_000, type: 'string' }]) {
    const found = new Set();
    for await (const keys of client.scanStream({ match: 'scan:*', ...options })) {
      keys.forEach((key) => found.add(key));
    }
    equal([...found].sort(), [...names].sort(), 'each key');
  }
  const [cursor, page] = await client.scan(0, 'COUNT', 10);
  ok(cursor !== '0' && page.length >= 10, 'a page', [cursor, page]);
}

async function configuration() {
  equal(await client.config('SET', 'maxclients', 4_000), 'OK');
  // The library hands a map over as the flat list that RESP2 has.
  equal(await client.config('GET', 'maxclients'), ['maxclients', '4000']);
  equal(await client.config('SET', 'timeout', 300, 'slowlog-max-len', 64), 'OK');
  const several = await client.config('GET', 'timeout', 'slowlog-m*');
  equal([...several].sort(), ['300', '64', 'slowlog-max-len', 'timeout']);
  await fails(ReplyError, client.config('SET', 'nosuch', 1), 'Unknown option');
  equal(await client.config('RESETSTAT'), 'OK');
  equal(await client.config('SET', 'timeout', 0), 'OK');
}

async function information() {
  // The library reads INFO itself before it is ready; programs get the text.
  const lines = new Set((await client.info()).split('\r\n'));
  for (const line of [`tcp_port:${PORT}`, 'loading:0', 'role:master', 'aof_enabled:1']) {
    ok(lines.has(line), line, [...lines]);
  }
  ok((await client.info('keyspace')).startsWith('# Keyspace\r\ndb0:keys='), 'keyspace');
}

async function expiry() {
  equal(await client.set('brief', 1, 'PX', 40), 'OK');
  await eventually('the key lapses', async () => (await client.get('brief')) === null);
  equal([await client.ttl('brief'), await client.ttl('bytes')], [-2, -1]);
  equal(await client.setex('long', 1_000, 'x'), 'OK');
  const left = await client.ttl('long');
  ok(left >= 990 && left <= 1_000, 'the time left', left);
  equal(await client.expire('long', 500, 'GT'), 0);
  equal(await client.expire('long', 2_000, 'GT'), 1);
  const at = Math.floor(Date.now() / 1_000) + 3_000;
  equal(await client.expireat('long', at), 1);
  equal([await client.expiretime('long'), await client.pexpiretime('long')], [at, 1_000 * at]);
  equal(await client.getex('long', 'PERSIST'), 'x');
  equal(await client.ttl('long'), -1);
}

async function clients() {
  const named = connect({ connectionName: 'me' });
  equal(await named.client('GETNAME'), 'me');
  equal(await named.client('SETNAME', 'other'), 'OK');
  const id = await named.client('ID');
  const about = await named.client('INFO');
  ok(about.startsWith(`id=${id} `) && about.includes(' name=other '), 'its line', about);
  const line = await client.client('LIST', 'ID', id);
  equal(line.split(' ').slice(0, 2), about.split(' ').slice(0, 2));
  if (!IS_REFERENCE) {
    equal(await named.client('SETINFO', 'LIB-NAME', 'mine'), 'OK');
    ok((await named.client('INFO')).includes(' lib-name=mine '), 'its name');
  }
  equal(await named.client('NO-EVICT', 'ON'), 'OK');
  equal(await client.client('KILL', 'ID', id), 1);
  equal(await named.ping(), 'PONG', 'it connects anew by itself');
  equal(await named.client('GETNAME'), 'me', 'under the name it was given');
  named.disconnect();
  equal(await client.client('PAUSE', 1, 'WRITE'), 'OK');
  equal(await client.client('UNPAUSE'), 'OK');
}

async function errors() {
  for (const [line, text] of [
    ['GET', "ERR wrong number of arguments for 'get' command"],
    ['SET k v EX 0', "ERR invalid expire time in 'set' command"],
    ['SET k v NX XX', 'ERR syntax error'],
    ['CONFIG NOSUCH', "ERR unknown subcommand 'NOSUCH'"],
    ['SELECT 99', 'ERR DB index is out of range'],
    ['EXEC', 'ERR EXEC without MULTI'],
  ]) {
    await fails(ReplyError, client.call(...line.split(' ')), text);
  }
  await client.config('SET', 'requirepass', 'secret');
  try {
    const right = connect({ password: 'secret' });
    equal(await right.ping(), 'PONG');
    right.disconnect();
    for (const [options, text] of [[{}, 'NOAUTH'], [{ password: 'wrong' }, 'WRONGPASS']]) {
      const refused = new Redis(PORT, { ...options, retryStrategy: null });
      const told = new Promise((resolve) => refused.on('error', resolve));
      await refused.ping().catch((error) => error);
      ok((await told).message.includes(text), text, (await told).message);
      refused.disconnect();
    }
  } finally {
    await client.config('SET', 'requirepass', '');
  }
}

async function introspection() {
  const [[name, arity, flags]] = await client.command('INFO', 'get');
  equal([name, arity, [...flags].includes('readonly')], ['get', 2, true]);
  equal((await client.command()).length, await client.command('COUNT'));
  equal(await client.command('GETKEYS', 'MSET', 'a', 1, 'b', 2), ['a', 'b']);
  equal(await client.object('ENCODING', 'bytes'), 'raw');
  ok((await client.memory('USAGE', 'bytes')) > 258, 'bytes used');
  equal(await client.role(), ['master', 0, []]);
  ok(Math.abs((await client.time())[0] - Date.now() / 1_000) < 60, 'the time');
  equal(await client.latency('LATEST'), []);
  equal(await client.wait(0, 10), 0);
}

async function monitoring() {
  const watcher = await client.monitor();
  const line = new Promise((resolve) => watcher.on('monitor', (...parts) => resolve(parts)));
  await client.set('m', '"');
  const [, args, source, database] = await line;
  equal([args, database], [['set', 'm', '"'], '0']);
  ok(source.startsWith('127.0.0.1:'), 'the source', source);
  watcher.disconnect();
}

async function databases() {
  const other = connect({ db: 9 });
  equal(await other.set('elsewhere', 1), 'OK');
  equal([await other.dbsize(), await client.exists('elsewhere')], [1, 0]);
  equal(await other.move('elsewhere', 0), 1);
  equal(await client.get('elsewhere'), '1');
  equal(await other.flushdb('ASYNC'), 'OK');
  other.disconnect();
}

async function finds_a_restarted_server_and_all_it_was_told() {
  const keys = Array.from({ length: 100 }, (_, number) => `kept:${number}`);
  const pipeline = client.pipeline();
  keys.forEach((key, at) => pipeline.set(key, at, 'EX', 10_000));
  await pipeline.exec();
  await client.set('kept:last', ALL_BYTES);
  const before = await client.dbsize();
  const lost = new Promise((resolve) => client.once('close', resolve));
  await restart();
  await lost;
  // The library connects anew by itself, and holds back what it is asked for meanwhile.
  equal(await client.getBuffer('kept:last'), ALL_BYTES);
  equal(await client.dbsize(), before);
  equal(await client.mget(keys), keys.map((_, at) => `${at}`));
  const left = await client.ttl('kept:7');
  ok(left > 9_000 && left <= 10_000, 'the time left', left);
}

await run([
  connects_with_resp3, strings, large_values, pipelines, transactions, scans, configuration,
  information, expiry, clients, errors, introspection, monitoring, databases,
  finds_a_restarted_server_and_all_it_was_told,
]);
