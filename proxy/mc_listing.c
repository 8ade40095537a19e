/* mc_listing.c - see mc_listing.h. */
#include "mc_listing.h"

#include <string.h>

#include "backend.h"
#include "mc_token.h"

#define KEY "key="

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "%41b" is "Ab". False: longer than any key, or badly escaped. */
static bool unescape(struct mp_slice text, char out[MC_MAX_KEY_BYTES], size_t *len)
{
	*len = 0;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];

		if (c == '%') {
			int high = i + 2 < text.len ? hex(text.data[i + 1]) : -1;
			int low = high >= 0 ? hex(text.data[i + 2]) : -1;

			if (low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (*len == MC_MAX_KEY_BYTES)
			return false;
		out[(*len)++] = c;
	}
	return *len > 0;
}

/* Where the line's words end. */
static const char *end_of(struct mp_slice line)
{
	size_t len = line.len;

	while (len > 0 && (line.data[len - 1] == '\n' || line.data[len - 1] == '\r'))
		len--;
	return line.data + len;
}

static bool is_ours(struct mp_slice escaped)
{
	char key[MC_MAX_KEY_BYTES];
	size_t len;

	return unescape(escaped, key, &len) &&
	       mp_starts_with((struct mp_slice){key, len}, MP_MEMCACHED_OWN_PREFIX);
}

bool mc_next_listing_line(const struct mp_buffer *in, struct mp_slice *line)
{
	const char *lf = NULL;

	*line = mp_buffer_slice(in);
	if (line->len > 0)
		lf = memchr(line->data, '\n', line->len);
	if (lf)
		line->len = (size_t)(lf + 1 - line->data);
	return lf;
}

enum mc_listing_line mc_listing_line_of(struct mp_slice line)
{
	const char *s = line.data, *end = end_of(line);
	struct mp_slice word = mc_next_word(&s, end);

	if (mp_starts_with(word, KEY)) /* metadump */
		word = (struct mp_slice){word.data + strlen(KEY), word.len - strlen(KEY)};
	else if (mp_slice_is(word, "mg")) /* mgdump */
		word = mc_next_word(&s, end);
	else
		return MC_LISTING_LAST;
	return is_ours(word) ? MC_LISTING_OURS : MC_LISTING_ITEM;
}

/* The number behind "name=". False: the word is another, or has none (-1: never). */
static bool number_of(struct mp_slice word, const char *name, uint64_t *value)
{
	size_t len = strlen(name);

	if (!mp_starts_with(word, name) || word.len == len || word.data[len] < '0' ||
	    word.data[len] > '9')
		return false;
	*value = mc_digits((struct mp_slice){word.data + len, word.len - len});
	return true;
}

void mc_put_listing_line(struct mc_writer *out, struct mp_slice line, uint64_t term,
			 int64_t shift_s)
{
	const char *s = line.data, *end = end_of(line);
	struct mp_slice word;
	uint64_t n;

	for (bool first = true; (word = mc_next_word(&s, end)).len > 0; first = false) {
		if (!first)
			mc_put_text(out, " ");
		if (number_of(word, "cas=", &n)) {
			mc_put_text(out, "cas=");
			mc_put_u64(out, mc_cas_tag(term, n));
		} else if (shift_s != 0 &&
			   (number_of(word, "exp=", &n) || number_of(word, "la=", &n))) {
			mc_put(out, word.data, *word.data == 'e' ? 4 : 3);
			mc_put_i64(out, (int64_t)n + shift_s);
		} else {
			mc_put_slice(out, word);
		}
	}
	mc_put(out, end, (size_t)(line.data + line.len - end));
}

bool mc_parse_listed(struct mp_slice line, struct mc_listed *item)
{
	const char *s = line.data, *end = end_of(line);
	struct mp_slice word = mc_next_word(&s, end);

	item->bytes = item->deadline_s = 0;
	if (!mp_starts_with(word, KEY) ||
	    !unescape((struct mp_slice){word.data + strlen(KEY), word.len - strlen(KEY)}, item->key,
		      &item->key_bytes))
		return false;
	while ((word = mc_next_word(&s, end)).len > 0)
		if (!number_of(word, "exp=", &item->deadline_s))
			number_of(word, "size=", &item->bytes);
	return item->bytes > 0;
}
