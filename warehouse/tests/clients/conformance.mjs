// Unmodified @clickhouse/client against the door: every line of warehouse/conformance.md that begins with `js-`.
//
// Usage: conformance.mjs URL USER PASSWORD. Prints one JSON object {check: null or what went wrong} on the last line.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@clickhouse/client';

const [url, username, password, ...only] = process.argv.slice(2);
const version = JSON.parse(readFileSync(createRequire(import.meta.url).resolve('@clickhouse/client/package.json'))).version;
const open = [];
const connect = (options = {}) => {
    const client = createClient({ url, username, password, database: 'heliograph', ...options });
    open.push(client);
    return client;
};
const client = connect();
const rows = async (query, options = {}) => (await client.query({ query, format: 'JSONEachRow', ...options })).json();
const table = async (name, columns, order = 'tuple()') => {
    await client.command({ query: `DROP TABLE IF EXISTS ${name}` });
    await client.command({ query: `CREATE TABLE ${name} (${columns}) ENGINE = MergeTree ORDER BY ${order}` });
};
const rejects = async (promise, ...words) => {
    let error;
    try { await promise; } catch (caught) { error = caught; }
    assert.ok(error, 'no error was raised');
    for (const word of words) assert.ok(`${error.code} ${error.type} ${error.message}`.includes(word), `${word} is not in: ${error.message}`);
};

const checks = {
    'js-ping': async () => {
        assert.deepEqual(await client.ping(), { success: true });
        assert.equal((await connect({ url: 'http://127.0.0.1:9' }).ping()).success, false);
    },
    'js-ping-select': async () => assert.deepEqual(await client.ping({ select: true }), { success: true }),
    'js-auth': async () => rejects(
        connect({ password: 'certainly wrong' }).query({ query: 'SELECT 1' }), 'AUTHENTICATION_FAILED'),
    'js-query-json': async () => {
        const set = await (await client.query({ query: 'SELECT number AS n FROM numbers(3)', format: 'JSON' })).json();
        assert.deepEqual(set.data.map(row => row.n), ['0', '1', '2'].map(n => typeof set.data[0].n === 'number' ? Number(n) : n));
        assert.deepEqual(set.meta, [{ name: 'n', type: 'UInt64' }]);
        assert.equal(set.rows, 3);
    },
    'js-query-formats': async () => {
        for (const [format, expected] of [
            ['CSV', '0\n1\n'], ['TabSeparated', '0\n1\n'], ['CSVWithNames', '"n"\n0\n1\n'],
            ['TabSeparatedWithNamesAndTypes', 'n\nUInt8\n0\n1\n'], ['JSONCompactEachRow', '[0]\n[1]\n'],
        ]) {
            const query = 'SELECT toUInt8(number) AS n FROM numbers(2)';
            assert.equal(await (await client.query({ query, format })).text(), expected, format);
        }
        const compact = await (await client.query({ query: 'SELECT 1 AS n', format: 'JSONCompact' })).json();
        assert.deepEqual(compact.data, [[1]]);
    },
    'js-query-stream': async () => {
        const set = await client.query({ query: 'SELECT number AS n FROM numbers(1000000)', format: 'JSONEachRow' });
        let count = 0;
        let total = 0;
        for await (const batch of set.stream()) for (const row of batch) { count += 1; total += Number(row.json().n); }
        assert.deepEqual([count, total], [1_000_000, 499_999_500_000]);
    },
    'js-types': async () => {
        await table('js_types', `a UInt64, b Nullable(Int32), c LowCardinality(String), d Array(UInt8), e Map(String, UInt8),
            f Tuple(Int8, String), g Int128, h DateTime64(3, 'UTC'), i UUID, j Bool, k Decimal(20, 5), l IPv6, m Enum8('x' = 1)`, 'a');
        const row = { a: '18446744073709551615', b: null, c: 'x\n\n', d: [1, 2], e: { k: 1 }, f: [-1, "it's"],
            g: '-170141183460469231731687303715884105728', h: '2026-01-02 03:04:05.678',
            i: '00000000-0000-0000-0000-000000000001', j: true, k: 1.5, l: '2001:db8::1', m: 'x' };
        await client.insert({ table: 'js_types', values: [row], format: 'JSONEachRow' });
        const [back] = await rows('SELECT * FROM js_types', { clickhouse_settings: { output_format_json_quote_64bit_integers: 1 } });
        assert.deepEqual(back, row);
    },
    'js-insert-array': async () => {
        await table('js_array', 'a UInt32, b String', 'a');
        await client.insert({ table: 'js_array', values: [{ a: 1, b: '\n\n' }, { a: 2, b: 'ü' }], format: 'JSONEachRow' });
        await client.insert({ table: 'js_array', values: [[3, 'c']], format: 'JSONCompactEachRow', columns: ['a', 'b'] });
        assert.deepEqual(await rows('SELECT * FROM js_array ORDER BY a'), [{ a: 1, b: '\n\n' }, { a: 2, b: 'ü' }, { a: 3, b: 'c' }]);
    },
    'js-insert-empty': async () => {
        await table('js_empty', 'a UInt32');
        assert.equal((await client.insert({ table: 'js_empty', values: [], format: 'JSONEachRow' })).executed, false);
    },
    'js-insert-stream': async () => {
        await table('js_stream', 'a UInt32, b String', 'a');
        const source = Readable.from((function* () { for (let a = 0; a < 200_000; a += 1) yield { a, b: `row\n\n${a}` }; })());
        await client.insert({ table: 'js_stream', values: source, format: 'JSONEachRow' });
        assert.deepEqual(await rows("SELECT toUInt32(count()) AS n, toUInt32(uniqExact(a)) AS u, toUInt32(countIf(b = concat('row\\n\\n', toString(a)))) AS good FROM js_stream"),
            [{ n: 200_000, u: 200_000, good: 200_000 }]);
    },
    'js-insert-csv-stream': async () => {
        await table('js_csv', 'a UInt32, b String', 'a');
        await client.insert({ table: 'js_csv', values: Readable.from(['1,"x\n\ny"\n', '2,z\n'], { objectMode: false }), format: 'CSV' });
        assert.deepEqual(await rows('SELECT * FROM js_csv ORDER BY a'), [{ a: 1, b: 'x\n\ny' }, { a: 2, b: 'z' }]);
    },
    'js-insert-rejected': async () => {
        await table('js_rejected', 'a UInt8');
        await rejects(client.insert({ table: 'js_rejected', values: ['{"a":1}\n{"a":"no number"}\n'].map(String), format: 'JSONEachRow' }));
        await rejects(client.insert({ table: 'js_none', values: [{ a: 1 }], format: 'JSONEachRow' }), 'UNKNOWN_TABLE');
        assert.deepEqual(await rows('SELECT toUInt8(count()) AS n FROM js_rejected'), [{ n: 0 }]);
    },
    'js-byte-pairs': async () => {
        await table('js_pairs', 'fixed FixedString(2), free String', 'fixed');
        const bytes = Buffer.alloc(65536 * 5);
        for (let n = 0; n < 65536; n += 1) {
            bytes.writeUInt16BE(n, n * 5);
            bytes.writeUInt8(2, n * 5 + 2);
            bytes.writeUInt16BE(n, n * 5 + 3);
        }
        const values = Readable.from((function* () { for (let at = 0; at < bytes.length; at += 60_000) yield bytes.subarray(at, at + 60_000); })(), { objectMode: false });
        await (await client.exec({ query: 'INSERT INTO js_pairs FORMAT RowBinary', values })).stream.resume();
        const [row] = await rows('SELECT toUInt32(count()) AS n, toUInt32(uniqExact(fixed)) AS u, toUInt32(countIf(fixed = free)) AS same FROM js_pairs');
        assert.deepEqual(row, { n: 65536, u: 65536, same: 65536 });
        const { stream } = await client.exec({ query: 'SELECT fixed, free FROM js_pairs ORDER BY fixed FORMAT RowBinary' });
        const back = [];
        for await (const piece of stream) back.push(piece);
        assert.ok(Buffer.concat(back).equals(bytes), 'bytes differ');
    },
    'js-params': async () => {
        const text = "it's\n\t\\ \"quoted\" {x:String} ü";
        const [row] = await rows('SELECT {n:UInt32} AS n, {s:String} AS s, {a:Array(UInt8)} AS a, {b:Nullable(String)} AS b, {m:Map(String, UInt8)} AS m, {d:DateTime(\'UTC\')} AS d, {f:Bool} AS f', {
            query_params: { n: 5, s: text, a: [1, 2], b: null, m: { k: 1 }, d: new Date('2026-01-02T03:04:05Z'), f: true },
        });
        assert.deepEqual(row, { n: 5, s: text, a: [1, 2], b: null, m: { k: 1 }, d: '2026-01-02 03:04:05', f: true });
    },
    'js-params-identifier': async () => {
        const [row] = await rows('SELECT count() > 0 AS some FROM {d:Identifier}.{t:Identifier}', { query_params: { d: 'system', t: 'tables' } });
        assert.deepEqual(row, { some: 1 });
    },
    'js-gzip': async () => {
        const gzip = connect({ compression: { request: true, response: true } });
        await table('js_gzip', 'a UInt32, b String', 'a');
        await gzip.insert({ table: 'js_gzip', values: Array.from({ length: 50_000 }, (_, a) => ({ a, b: 'text\n\n' })), format: 'JSONEachRow' });
        const set = await gzip.query({ query: 'SELECT * FROM js_gzip ORDER BY a', format: 'JSONEachRow' });
        let count = 0;
        for await (const batch of set.stream()) count += batch.length;
        assert.equal(count, 50_000);
    },
    'js-abort': async () => {
        const controller = new AbortController();
        const running = client.query({
            query: "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number), 'js abort')",
            abort_signal: controller.signal,
        });
        const processes = async () => Number((await rows("SELECT count() AS n FROM system.processes WHERE query LIKE '%js abort%' AND query NOT LIKE '%system.processes%'"))[0].n);
        const until = async (wanted) => {
            for (let tries = 0; (await processes()) !== wanted; tries += 1) {
                assert.ok(tries < 200, `still not ${wanted} running`);
                await sleep(100);
            }
        };
        const aborted = rejects(running, 'abort');
        await until(1);
        controller.abort();
        await aborted;
        await until(0);
    },
    'js-close-stream': async () => {
        const set = await client.query({ query: "SELECT number, 'js close' AS t FROM numbers(1000000000000)", format: 'JSONEachRow' });
        for await (const _ of set.stream()) break;
        set.close();
        for (let tries = 0; ; tries += 1) {
            const [{ n }] = await rows("SELECT count() AS n FROM system.processes WHERE query LIKE '%js close%' AND query NOT LIKE '%system.processes%'");
            if (Number(n) === 0) break;
            assert.ok(tries < 200, 'the statement still runs');
            await sleep(100);
        }
    },
    'js-errors': async () => {
        await rejects(client.query({ query: 'SELECT * FROM js_missing' }), '60', 'UNKNOWN_TABLE');
        // In lower case: the client takes the first word of capitals in brackets for the type, here the word at fault.
        await rejects(client.query({ query: 'selec 1' }), '62', 'SYNTAX_ERROR');
        await rejects(client.command({ query: "SELECT * FROM file('/etc/passwd')" }), '497', 'ACCESS_DENIED');
        await rejects(client.query({ query: 'SELECT sleep(2)', clickhouse_settings: { max_execution_time: 1 } }), '159');
    },
    'js-stream-error': async () => {
        let count = 0;
        const read = async () => {
            const set = await client.query({
                query: "SELECT number + throwIf(number = 900000, 'in the middle') AS n FROM numbers(1000000)", format: 'JSONEachRow',
            });
            for await (const batch of set.stream()) for (const row of batch) { row.json(); count += 1; }
        };
        await rejects(read(), '');
        assert.ok(count < 1_000_000);
    },
    'js-stream-error-gzip': async () => {
        const gzip = connect({ compression: { response: true } });
        const read = async () => {
            const set = await gzip.query({
                query: "SELECT number + throwIf(number = 900000, 'in the middle') AS n FROM numbers(1000000)", format: 'JSONEachRow',
            });
            for await (const batch of set.stream()) for (const row of batch) row.json();
        };
        await rejects(read(), '');
    },
    'js-session': async () => {
        const session = connect({ session_id: randomUUID(), max_open_connections: 1 });
        await session.command({ query: 'CREATE TEMPORARY TABLE js_session (a UInt8)' });
        await session.insert({ table: 'js_session', values: [{ a: 7 }], format: 'JSONEachRow' });
        assert.deepEqual(await (await session.query({ query: 'SELECT a FROM js_session', format: 'JSONEachRow' })).json(), [{ a: 7 }]);
        await rejects(client.query({ query: 'SELECT a FROM js_session' }), 'UNKNOWN_TABLE');
    },
    'js-settings': async () => {
        const [row] = await rows("SELECT getSetting('max_threads') AS n", { clickhouse_settings: { max_threads: 3 } });
        assert.equal(Number(row.n), 3);
    },
    'js-query-id': async () => {
        const query_id = randomUUID();
        assert.equal((await client.query({ query: 'SELECT 1', query_id })).query_id, query_id);
        assert.match((await client.command({ query: 'SELECT 1' })).query_id, /^[0-9a-f-]{36}$/);
    },
    'js-summary': async () => {
        await table('js_summary', 'a UInt32');
        const inserted = await client.insert({ table: 'js_summary', values: [{ a: 1 }, { a: 2 }], format: 'JSONEachRow' });
        assert.equal(inserted.summary.written_rows, '2');
    },
    'js-exec': async () => {
        const { stream } = await client.exec({ query: 'SELECT 1 FORMAT CSV' });
        let text = '';
        for await (const piece of stream) text += piece.toString();
        assert.equal(text, '1\n');
    },
    'js-parquet': async () => {
        const { stream } = await client.exec({ query: 'SELECT number FROM numbers(100) FORMAT Parquet' });
        const pieces = [];
        for await (const piece of stream) pieces.push(piece);
        const file = Buffer.concat(pieces);
        assert.equal(file.subarray(0, 4).toString() + file.subarray(-4).toString(), 'PAR1PAR1');
    },
    'js-command': async () => {
        await client.command({ query: 'CREATE TABLE IF NOT EXISTS js_command (a UInt8) ENGINE = Memory' });
        await client.command({ query: 'DROP TABLE js_command' });
        await rejects(client.command({ query: 'DROP TABLE js_command' }), 'UNKNOWN_TABLE');
    },
    'js-parallel': async () => {
        const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => rows(`SELECT ${n} AS n, sleep(0.05) AS s`)));
        assert.deepEqual(answers.map(([row]) => row.n), Array.from({ length: 20 }, (_, n) => n));
    },
    'js-keep-alive': async () => {
        const one = connect({ max_open_connections: 1 });
        for (let n = 0; n < 50; n += 1) {
            assert.equal((await (await one.query({ query: `SELECT ${n} AS n`, format: 'JSONEachRow' })).json())[0].n, n);
        }
    },
    'js-semicolon': async () => assert.equal(await (await client.query({ query: 'SELECT 1;', format: 'CSV' })).text(), '1\n'),
};

const results = {};
for (const [name, check] of Object.entries(checks)) {
    if (only.length > 0 && !only.includes(name)) continue;
    try {
        await check();
        results[name] = null;
    } catch (error) {
        if (only.length > 0) console.error(error);
        results[name] = `${error.name}: ${error.message}`.slice(0, 500);
    }
}
await Promise.all(open.map(each => each.close()));
console.log(JSON.stringify({ client: `@clickhouse/client ${version}`, results }));
