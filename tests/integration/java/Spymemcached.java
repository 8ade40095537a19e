/*
 * What Java programs do with spymemcached, over the binary protocol or the text
 * one: single requests, pipelined ones (which it joins into quiet multi-gets and
 * multi-sets that a NOOP ends), tokens, counters, touch, stats.
 *
 *     java -cp spymemcached.jar:. Spymemcached HOST:PORT binary|text [USER PASSWORD]
 *
 * Prints "ok" if every answer was right.
 */
import java.net.SocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import net.spy.memcached.AddrUtil;
import net.spy.memcached.CASResponse;
import net.spy.memcached.CASValue;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.MemcachedClient;
import net.spy.memcached.auth.AuthDescriptor;
import net.spy.memcached.auth.PlainCallbackHandler;

public class Spymemcached {
	static final int MANY = 500, PAIRS = 50, TIMEOUT_MS = 60000;
	static MemcachedClient client;

	static void check(boolean ok, String what) {
		if (!ok)
			throw new AssertionError("not so: " + what);
	}

	static void same(Object got, Object expected, String what) {
		check(expected == null ? got == null : expected.equals(got),
		      what + ": " + got + " instead of " + expected);
	}

	static void stores() throws Exception {
		same(client.set("spy", 0, "value").get(), true, "set");
		same(client.get("spy"), "value", "get");
		same(client.add("spy", 0, "other").get(), false, "add");
		same(client.replace("spy", 100, "newer").get(), true, "replace");
		same(client.replace("spy-none", 0, "x").get(), false, "replace of nothing");
		same(client.append("spy", "!").get(), true, "append");
		same(client.prepend("spy", "!").get(), true, "prepend");
		same(client.get("spy"), "!newer!", "both");
		same(client.delete("spy").get(), true, "delete");
		same(client.delete("spy").get(), false, "delete of nothing");
		same(client.get("spy"), null, "get of nothing");
		same(client.set("spy-object", 0, new ArrayList<>(List.of(1, "b"))).get(), true, "an object");
		same(client.get("spy-object"), List.of(1, "b"), "an object");
		byte[] large = new byte[900000];
		for (int i = 0; i < large.length; i++)
			large[i] = (byte) (i * 31 + i / 997);
		same(client.set("spy-large", 0, large).get(), true, "a large value");
		check(Arrays.equals((byte[]) client.get("spy-large"), large), "a large value");
	}

	static void tokens() throws Exception {
		client.set("spy-cas", 0, "one").get();
		CASValue<Object> value = client.gets("spy-cas");
		same(client.cas("spy-cas", value.getCas(), "two"), CASResponse.OK, "cas");
		same(client.cas("spy-cas", value.getCas(), "three"), CASResponse.EXISTS, "an old token");
		same(client.cas("spy-none", value.getCas(), "x"), CASResponse.NOT_FOUND, "cas of nothing");
		same(client.gets("spy-cas").getValue(), "two", "gets");
	}

	static void counters(boolean binary) throws Exception {
		client.delete("spy-n").get();
		same(client.incr("spy-n", 5), -1L, "incr of nothing");
		same(client.incr("spy-n", 5, 100), 100L, "incr with a default");
		same(client.incr("spy-n", 5, 100), 105L, "incr");
		same(client.decr("spy-n", 6), 99L, "decr");
		same(client.asyncIncr("spy-n", 1).get(), 100L, "incr, later");
		same(client.touch("spy-n", 100).get(), true, "touch");
		if (binary)
			same(client.getAndTouch("spy-n", 50).getValue(), "100", "get and touch");
	}

	/* What is asked for at once travels as one multi-get, and as one multi-set. */
	static void many() throws Exception {
		Map<String, Object> expected = new HashMap<>();
		List<Future<Boolean>> sets = new ArrayList<>();
		List<Future<Object>> gets = new ArrayList<>();
		for (int i = 0; i < MANY; i++) {
			expected.put("spy-" + i, "value " + i);
			sets.add(client.set("spy-" + i, 0, "value " + i));
		}
		for (Future<Boolean> set : sets)
			same(set.get(), true, "one of many sets");
		List<String> keys = new ArrayList<>(expected.keySet());
		keys.add("spy-none");
		same(client.getBulk(keys), expected, "getBulk");
		for (String key : keys)
			gets.add(client.asyncGet(key));
		for (int i = 0; i < keys.size(); i++)
			same(gets.get(i).get(), expected.get(keys.get(i)), keys.get(i));
		/* In the order in which they were given, whatever is joined with what. */
		for (int i = 0; i < PAIRS; i++) {
			Future<Boolean> set = client.set("spy-order", 0, "number " + i);
			Future<Object> get = client.asyncGet("spy-order");
			same(get.get(), "number " + i, "a get behind a set");
			same(set.get(), true, "a set before a get");
		}
	}

	static void about_the_server() {
		for (String version : client.getVersions().values())
			check(version.contains("muproxy"), version);
		for (Map<String, String> stats : client.getStats().values())
			check(Integer.parseInt(stats.get("pid")) > 0, "stats");
		for (Map<String, String> stats : client.getStats("settings").values())
			check(stats.containsKey("item_size_max"), "stats settings");
	}

	public static void main(String[] args) throws Exception {
		boolean binary = args[1].equals("binary");
		ConnectionFactoryBuilder how = new ConnectionFactoryBuilder().setOpTimeout(TIMEOUT_MS)
			.setAuthWaitTime(TIMEOUT_MS)
			.setProtocol(binary ? ConnectionFactoryBuilder.Protocol.BINARY
					    : ConnectionFactoryBuilder.Protocol.TEXT);
		if (args.length > 2)
			how.setAuthDescriptor(new AuthDescriptor(
				new String[] {"PLAIN"}, new PlainCallbackHandler(args[2], args[3])));
		client = new MemcachedClient(how.build(), AddrUtil.getAddresses(args[0]));
		stores();
		tokens();
		counters(binary);
		many();
		about_the_server();
		System.out.println("ok");
		System.exit(0);
	}
}
