// What `python -m tests.honest npm:NAME` calls of packages: `own` is what `require` gives, `plain` its default;
// `folder()` makes a folder with a file, `serve(answer)` a server on loopback.

// == lodash
assert.deepEqual(own.chunk([1, 2, 3], 2), [[1, 2], [3]]);
assert.equal(own.template('<%= a %>')({ a: 4 }), '4');
assert.equal(own.memoize((n) => n * 2)(2), 4);
assert.deepEqual(own.merge({ a: { b: 1 } }, { a: { c: 2 } }), { a: { b: 1, c: 2 } });
// == express
const app = own();
app.get('/a', (asked, answer) => answer.json({ b: asked.query.b }));
const { url, close } = await serve(app);
const text = await (await fetch(`${url}a?b=1`)).text();
close();
assert.equal(text, '{"b":"1"}');
// == koa
const app = new plain();
app.use(async (c) => { c.body = { b: c.query.b };
});
const { url, close } = await serve(app.callback());
const text = await (await fetch(`${url}a?b=1`)).text();
close();
assert.equal(text, '{"b":"1"}');
// == fastify
const app = plain();
app.get('/a', async (asked) => ({ b: asked.query.b }));
assert.equal((await app.inject('/a?b=1')).body, '{"b":"1"}');
await app.close();
// == axios
const { url, close } = await serve((_, answer) => answer.end('{"a":1}'));
assert.equal((await plain.get(url)).data.a, 1);
close();
// == got
const { url, close } = await serve((_, answer) => answer.end('{"a":1}'));
assert.equal((await plain(url).json()).a, 1);
close();
// == undici
const { url, close } = await serve((_, answer) => answer.end('{"a":1}'));
const { body } = await own.request(url);
assert.equal((await body.json()).a, 1);
assert.equal((await own.fetch(url)).status, 200);
close();
// == ws
const server = new own.WebSocketServer({ port: 0, host: '127.0.0.1' });
await new Promise((done) => server.on('listening', done));
server.on('connection', (one) => one.on('message', (said) => one.send(`${said}!`)));
const socket = new own.WebSocket(`ws://127.0.0.1:${server.address().port}`);
socket.on('open', () => socket.send('a'));
assert.equal(String(await new Promise((done) => socket.on('message', done))), 'a!');
socket.terminate();
server.close();
// == zod
const shape = own.z.object({ a: own.z.string(), b: own.z.number().min(2) });
assert.ok(shape.safeParse({ a: 'x', b: 2 }).success);
assert.ok(!shape.safeParse({ a: 1, b: 1 }).success);
assert.throws(() => shape.parse({}));
// == joi
const shape = own.object({ a: own.string().required(), b: own.number().min(2) });
assert.ok(!shape.validate({ a: 'x' }).error);
assert.ok(shape.validate({ b: 1 }).error);
assert.ok((await shape.validateAsync({ a: 'y' })).a);
// == ajv
const check = new plain().compile({ type: 'object', required: ['a'], properties: { a: { type: 'integer' } } });
assert.ok(check({ a: 1 }));
assert.ok(!check({ a: 'x' }));
// == yup
const shape = own.object({ a: own.string().required() });
assert.ok(await shape.isValid({ a: 'x' }));
await assert.rejects(shape.validate({}), /required/);
// == rxjs
const found = await own.firstValueFrom(own.from([1, 2, 3]).pipe(own.map((n) => n * 2), own.toArray()));
assert.deepEqual(found, [2, 4, 6]);
assert.equal(await own.lastValueFrom(own.timer(2)), 0);
// == immer
const was = { a: [1] };
const is = own.produce(was, (one) => { one.a.push(2);
});
assert.deepEqual(is.a, [1, 2]);
assert.equal(was.a.length, 1);
assert.ok(Object.isFrozen(is));
// == redux
const store = own.legacy_createStore((n = 0, act) => (act.type === 'more' ? n + 1 : n));
let seen = 0;
store.subscribe(() => { seen += 1;
});
store.dispatch({ type: 'more' });
assert.equal(store.getState() + seen, 2);
// == moment
assert.equal(own.utc('2020-02-28').add(2, 'days').format('YYYY-MM-DD'), '2020-03-01');
assert.ok(!own('x', 'YYYY', true).isValid());
// == dayjs
assert.equal(own('2020-02-28').add(2, 'day').format('YYYY-MM-DD'), '2020-03-01');
// == luxon
assert.equal(own.DateTime.fromISO('2020-02-28', { zone: 'utc' }).plus({ days: 2 }).toISODate(), '2020-03-01');
// == date-fns
assert.equal(own.format(own.addDays(new Date(2020, 1, 28), 2), 'yyyy-MM-dd'), '2020-03-01');
// == uuid
assert.ok(own.validate(own.v4()));
assert.equal(own.version(own.v7()), 7);
assert.equal(own.v5('a', own.v5.URL).length, 36);
// == commander
const all = new own.Command().exitOverride().option('-n, --number <n>').argument('[file]').parse(['-n', '3', 'a'], { from: 'user' });
assert.equal(all.opts().number, '3');
assert.deepEqual(all.args, ['a']);
// == yargs
const found = await plain(['--n', '3', 'a']).option('n', { type: 'number' }).exitProcess(false).parse();
assert.equal(found.n, 3);
assert.deepEqual(found._, ['a']);
// == chalk
const { Chalk } = own;
assert.equal(new Chalk({ level: 1 }).red('a'), '\x1b[31ma\x1b[39m');
// == ora
const one = plain({ text: 'a', isEnabled: false }).start();
one.succeed('b');
assert.equal(one.text, 'a');
// == inquirer
assert.equal(typeof plain.prompt, 'function');
assert.deepEqual(await plain.prompt([], { a: 1 }), { a: 1 });
// == winston
const { Writable } = require('stream');
let said = '';
const stream = new Writable({ write(a, _, done) { said += a;
done();
} });
const log = own.createLogger({ transports: [new own.transports.Stream({ stream })] });
log.info('a');
log.end();
await new Promise((done) => log.on('finish', done));
assert.equal(JSON.parse(said).message, 'a');
// == pino
let said = '';
own({}, { write: (text) => { said += text;
} }).child({ a: 1 }).info('b');
assert.equal(JSON.parse(said).msg, 'b');
// == bunyan
let said;
own.createLogger({ name: 'a', streams: [{ type: 'raw', stream: { write: (one) => { said = one;
} } }] }).info('b');
assert.equal(said.msg, 'b');
// == debug
let said = '';
const log = own('a:b');
own.enable('a:*');
log.log = (...all) => { said += all.join(' ');
};
log('x %d', 4);
assert.ok(/x/.test(said));
// == async
assert.deepEqual(await own.mapLimit([1, 2], 1, async (n) => n * 2), [2, 4]);
await new Promise((done) => own.series([(next) => setTimeout(next, 1, null, 4)], (_, all) => { assert.deepEqual(all, [4]);
done();
}));
// == bluebird
assert.deepEqual(await own.map([1, 2], (n) => own.delay(1).then(() => n * 2)), [2, 4]);
await assert.rejects(own.reject(new Error('x')));
// == q
assert.equal(await own.delay(1).then(() => 4), 4);
await assert.rejects(own.reject(new Error('x')));
// == p-queue
const queue = new plain({ concurrency: 1 });
assert.equal(await queue.add(async () => 4), 4);
await queue.onIdle();
// == p-limit
const limit = plain(1);
assert.deepEqual(await Promise.all([1, 2].map((n) => limit(async () => n))), [1, 2]);
// == glob
const dir = folder();
assert.deepEqual(own.globSync('*.txt', { cwd: dir }), ['a.txt']);
assert.equal((await own.glob('**/*', { cwd: dir })).length, 1);
// == fast-glob
const dir = folder();
assert.deepEqual(await own('*.txt', { cwd: dir }), ['a.txt']);
assert.equal(own.sync('*', { cwd: dir }).length, 1);
// == minimatch
assert.ok(own.minimatch('a/b.js', '**/*.{js,ts}'));
assert.ok(!own.minimatch('a', 'b*'));
// == chokidar
const dir = folder();
const watch = own.watch(dir);
await new Promise((done) => watch.on('ready', done));
assert.ok(Object.keys(watch.getWatched()).length > 0);
await watch.close();
// == fs-extra
const dir = folder();
await own.copy(dir, dir + '2/b');
await own.writeJson(dir + '2/c.json', { a: 1 });
assert.equal((await own.readJson(dir + '2/c.json')).a, 1);
assert.ok(own.pathExistsSync(dir + '2/b/a.txt'));
await own.remove(dir);
// == graceful-fs
const dir = folder();
own.gracefulify(fs);
assert.equal(fs.readFileSync(path.join(dir, 'a.txt'), 'utf8'), 'x');
assert.equal(String(await new Promise((done) => own.readFile(path.join(dir, 'a.txt'), (_, text) => done(text)))), 'x');
// == rimraf
const dir = folder();
await own.rimraf(dir);
assert.ok(!fs.existsSync(dir));
// == semver
assert.ok(own.satisfies('1.2.3', '^1.0.0'));
assert.equal(own.inc('1.2.3', 'minor'), '1.3.0');
assert.deepEqual(own.sort(['2.0.0', '1.0.0']), ['1.0.0', '2.0.0']);
// == marked
assert.equal(own.parse('# a').trim(), '<h1>a</h1>');
// == markdown-it
assert.equal(plain({ html: true }).render('*a*').trim(), '<p><em>a</em></p>');
// == handlebars
own.registerHelper('up', (text) => text.toUpperCase());
assert.equal(own.compile('{{#each a}}{{up this}}{{/each}}')({ a: ['x', 'y'] }), 'XY');
// == mustache
assert.equal(own.render('{{#a}}{{.}}{{/a}}', { a: [1, 2] }), '12');
// == ejs
assert.equal(own.render('<% for (const n of a) { %><%= n %><% } %>', { a: [1, 2] }), '12');
// == pug
assert.equal(own.render('p= a', { a: 4 }), '<p>4</p>');
// == postcss
const up = { postcssPlugin: 'up', Declaration(one) { if (one.value === 'a') one.value = 'b';
} };
assert.equal((await plain([up]).process('p { x: a }', { from: undefined })).css, 'p { x: b }');
// == @babel/core
assert.ok((await own.transformAsync('const a = 1', { configFile: false, babelrc: false })).code.includes('const a = 1'));
assert.equal(own.parseSync('a', { configFile: false, babelrc: false }).type, 'File');
// == typescript
assert.ok(own.version);
// == terser
assert.equal((await own.minify('function f(first) { return first + 1 + 2; }')).code, 'function f(n){return n+1+2}');
// == acorn
assert.equal(own.parse('a + 1', { ecmaVersion: 2022 }).body[0].expression.operator, '+');
assert.throws(() => own.parse('a +', { ecmaVersion: 6 }));
// == esprima
assert.equal(own.parseScript('a + 1').body[0].expression.operator, '+');
assert.equal(own.tokenize('a').length, 1);
// == sinon
const spy = own.fake.returns(4);
assert.equal(spy(1), 4);
own.assert.calledOnce(spy);
const clock = own.useFakeTimers();
let n = 0;
setTimeout(() => { n = 1;
}, 50);
clock.tick(60);
clock.restore();
assert.equal(n, 1);
const held = { a: () => 1 };
own.stub(held, 'a').returns(2);
assert.equal(held.a(), 2);
own.restore();
// == nock
(own.default || own)('http://example.org').get('/a').reply(200, 'x');
const text = await new Promise((done) => require('http').get('http://example.org/a', (one) => one.on('data', (part) => done(String(part)))));
assert.equal(text, 'x');
(own.default || own).restore();
// == jsdom
const { window } = new own.JSDOM('<p>a</p><script>document.title = "b"</script>', { runScripts: 'dangerously' });
assert.equal(window.document.querySelector('p').textContent + window.document.title, 'ab');
window.close();
// == cheerio
const $ = own.load('<ul><li>a</li><li>b</li></ul>');
assert.equal($('li').last().text(), 'b');
// == react
const one = own.createElement('p', { a: 1 }, 'x');
assert.equal(one.props.children, 'x');
assert.ok(own.isValidElement(one));
// == react-dom
const React = load('react');
const { renderToString } = load('react-dom/server');
assert.equal(renderToString(React.createElement('p', null, 'x')), '<p>x</p>');
// == svelte
const { compile } = load('svelte/compiler');
assert.ok(compile('<p>{1}</p>', { generate: 'server' }).js.code.includes('<p>'));
// == graphql
const schema = own.buildSchema('type Query { a: Int }');
const found = await own.graphql({ schema, source: '{ a }', rootValue: { a: 4 } });
assert.equal(found.data.a, 4);
// == socket.io
const server = require('http').createServer();
const io = new own.Server(server);
io.use((_, next) => next());
io.path('/io');
assert.ok(io.of('/a'));
await io.close();
// == mongoose
const schema = new own.Schema({ a: { type: Number, required: true } });
const One = own.model('One', schema);
assert.ok(new One({}).validateSync().errors.a);
assert.equal(new One({ a: '4' }).a, 4);
// == knex
const base = own({ client: 'pg' });
assert.equal(base('t').where({ a: 1 }).toString(), 'select * from "t" where "a" = 1');
// == jsonwebtoken
const token = own.sign({ a: 1 }, 'k');
assert.equal(own.verify(token, 'k').a, 1);
assert.throws(() => own.verify(token, 'j'));
// == bcryptjs
const hash = await plain.hash('a', 4);
assert.ok(await plain.compare('a', hash));
assert.ok(!plain.compareSync('b', hash));
// == passport
const one = new own.Passport();
one.use('a', { name: 'a', authenticate() { this.success({ id: 4 });
} });
const asked = { logIn: (_, __, done) => done() };
await new Promise((done) => one.authenticate('a', { session: false })(asked, {}, done));
// == underscore
assert.deepEqual(own.groupBy([1, 2, 3], (n) => n % 2), { 0: [2], 1: [1, 3] });
assert.equal(own.template('<%= a %>')({ a: 4 }), '4');
// == ramda
assert.deepEqual(own.pipe(own.filter((n) => n > 1), own.map(own.inc))([1, 2, 3]), [3, 4]);
// == qs
assert.deepEqual(own.parse('a[b]=c'), { a: { b: 'c' } });
assert.equal(own.stringify({ a: [1] }, { encode: false }), 'a[0]=1');
// == body-parser
const { url, close } = await serve((asked, answer) => own.json()(asked, answer, () => answer.end('x')));
const text = await (await fetch(url)).text();
close();
assert.equal(text, 'x');
// == cookie
assert.equal((own.parse || own.parseCookie)('a=b; c=d').c, 'd');
// == supertest
const { status, text } = await own((_, answer) => answer.end('x')).get('/');
assert.equal(status, 200);
assert.equal(text, 'x');
