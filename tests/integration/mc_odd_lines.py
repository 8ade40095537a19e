"""Lines as no client library sends them: commands whose words are swapped, doubled, lost, garbled."""

import re

LETTERS = b"0159abkqvNTx \0\t-\xff"
WORDS = [
    b"", b"0", b"-1", b"1", b"4294967295", b"4294967296", b"18446744073709551615",
    b"18446744073709551616", b"2147483647", b"2147483648", b"-2147483648", b"-2147483649",
    b"9" * 20, b"0x10", b"010", b"+5", b"5x", b"x5", b"noreply", b"k" * 250, b"k" * 251, b"a\0b",
    b"\xc3\xa9", b"b", b"\t", b"a\tb", b"5\t", b"-", b"+", b".5", b"T0", b"T-1", b"q", b"k", b"v",
    b"c", b"O", b"Oabc", b"b2RkIGtleQ==", b"b2RkIGtleQ", b"b2R", b"====", b"I", b"MA", b"Ma", b"MS",
    b"MX", b"S2", b"S", b"C0", b"C", b"D5", b"J5", b"N", b"N0", b"F5", b"F-1", b"F4294967296",
    b"T4294967296", b"2592001", b"R30", b"R0", b"h", b"l", b"t", b"s", b"f", b"u", b"E5", b"x", b"P",
    b"L", b"\r", b"k1", b"k2", b"k3"]
VALUES = [b"", b"0", b"17", b"18446744073709551615", b"text", b"a\r\nb", b"12 ", b" 12", b"-5",
          b"1\0002", b"9" * 25]
LINES = [line.split(b" ") for line in [
    b"get k1", b"get k1 k2 none k3", b"gets k1 k2", b"gat 0 k1", b"gat 100 k1 k2 none",
    b"gats 100 k1 k3", b"set k1 5 0 %d", b"add k2 5 100 %d", b"replace k3 5 0 %d",
    b"append k1 0 0 %d", b"prepend k1 0 0 %d", b"cas k1 5 0 %d 1152921504606846976",
    b"set k1 5 0 %d noreply", b"add k2 5 100 %d noreply",
    b"cas k1 5 0 %d 1152921504606846976 noreply", b"delete k1", b"delete k1 0",
    b"delete k1 noreply", b"delete k1 0 noreply", b"incr k4 5", b"decr k4 3", b"incr k4 5 noreply",
    b"touch k1 100", b"touch k1 0 noreply", b"flush_all", b"flush_all noreply", b"mn", b"mg k1",
    b"mg k1 v k f s", b"mg k2 v N30 q", b"mg b2RkIGtleQ== b k v", b"mg k3 T100 k", b"ms k1 %d",
    b"ms k1 %d T0 F5 k", b"ms b2RkIGtleQ== %d b k c", b"ms k2 %d MA q", b"ms k2 %d ME Ox",
    b"ms k3 %d I C5", b"md k1", b"md k1 q k", b"md k1 I T30", b"md b2RkIGtleQ== b k", b"ma k4",
    b"ma k4 N0 J13 v", b"ma k4 MD D5 v k", b"me k1", b"me b2RkIGtleQ== b", b"bget k1", b"GET k1",
    b"nonsense", b"", b"lru_crawler nonsense", b"touch", b"lru", b"slabs", b"slabs nonsense",
    b"cache_memlimit", b"verbosity", b"mq", b"mx k1"]]
# How each round of them begins.
BEGIN = (b"flush_all\r\nset k1 1 0 2\r\n10\r\nset k3 1 0 1\r\nx\r\nset k4 0 0 1\r\n7\r\n")
MOST_BYTES = 1000  # of a block that a garbled length announces


def garble(words, choose):
    at = choose.randrange(len(words) + 1)
    way = choose.randrange(6)
    if way == 0:
        words.insert(at, choose.choice(WORDS))
    elif way == 1:
        words.append(choose.choice(WORDS))
    elif at < len(words):
        if way == 2:
            words[at] = choose.choice(WORDS)
        elif way == 3:
            words.insert(at, words[at])
        elif way == 4:
            del words[at]
        elif words[at]:
            letters = bytearray(words[at])
            letters[choose.randrange(len(letters))] = choose.choice(LETTERS)
            words[at] = bytes(letters)


def is_fit(line):
    """Can two servers be compared by it? (Not by what is due later, nor by blocks without end.)"""
    words = line.split()
    lengths = [word for word in words[2:3] + words[4:5] if re.fullmatch(rb"\+?\d+", word)]
    if re.match(rb" *(set|add|replace|append|prepend|cas|ms) ", line) and any(
            int(length) > MOST_BYTES for length in lengths):
        return False
    return not re.match(rb" *(flush_all +(?!noreply)|verbosity +\S|cache_memlimit +\S)", line)


def odd_line(choose):
    """One, and the block that it may announce."""
    while True:
        words, value = list(choose.choice(LINES)), choose.choice(VALUES)
        stores = b"%d" in words
        words = [b"%d" % len(value) if word == b"%d" else word for word in words]
        for _ in range(choose.choice([0, 1, 1, 1, 2, 2, 3])):
            garble(words, choose)
        line = b" ".join(words)
        if not is_fit(line):
            continue
        line += choose.choice([b"\r\n"] * 9 + [b"\n", b" \r\n", b"\r\r\n"])
        if stores:
            line += value + choose.choice([b"\r\n"] * 8 + [b"\n", b"xx", b"xx\r\n"])
        return line
