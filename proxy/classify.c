/* classify.c - see classify.h. */
#include "classify.h"

#include <stdio.h>
#include <string.h>

#include "backend.h"
#include "blocking_form.h"
#include "mc_encode.h"
#include "state.h"
#include "stream_groups.h"

/* Plain SETs are what most writes are: no need to look at them again for the log. */
bool mp_needs_rewrite(const struct mp_command *command, const struct resp_request *request)
{
	if (command->rewrite == MP_REWRITE_NONE || command->rewrite == MP_REWRITE_PUBLISH ||
	    command->rewrite == MP_REWRITE_BLOCK)
		return false;
	return command->rewrite != MP_REWRITE_SET || request->argc > 3;
}

enum mp_verdict mp_classify_redis(const struct mp_proxy *proxy, const struct resp_request *request,
				  uint32_t database, struct mp_request_meta *meta,
				  const struct mp_command **command, char *error)
{
	const struct mp_command *found;
	struct mp_blocking_form form;

	if (!proxy->commands) {
		snprintf(error, MP_ERROR_BYTES,
			 "LOADING muproxy: the backend has not been reached yet");
		return MP_VERDICT_ERROR;
	}
	found = mp_command_find(proxy->commands, request, error, MP_ERROR_BYTES);
	if (!found)
		return MP_VERDICT_ERROR;
	*command = found;
	*meta = (struct mp_request_meta){.protocol = MP_REDIS, .database = database};
	meta->blocks = mp_blocking_form_of(found, request, &form);
	meta->moves = meta->blocks && form.destination;
	meta->groups = (uint8_t)mp_groups_treatment(found, request);
	switch (found->class) {
	case MP_CLASS_READ:
		meta->class = MP_REQUEST_READ;
		meta->watch = meta->gates = found->rewrite == MP_REWRITE_WATCH;
		meta->info = found->rewrite == MP_REWRITE_INFO;
		meta->config = found->rewrite == MP_REWRITE_CONFIG;
		meta->scan = found->rewrite == MP_REWRITE_SCAN;
		if (found->rewrite >= MP_REWRITE_TTL && found->rewrite <= MP_REWRITE_PEXPIRETIME)
			meta->ttl = (uint8_t)found->rewrite;
		return MP_VERDICT_SERVE;
	case MP_CLASS_WRITE:
		meta->class = MP_REQUEST_WRITE;
		meta->blind = mp_command_is_blind(found, request);
		meta->rewrite = mp_needs_rewrite(found, request);
		meta->publish = found->rewrite == MP_REWRITE_PUBLISH;
		meta->speaks = mp_command_speaks(found);
		meta->settings = mp_command_sets(found);
		meta->denyoom = found->denyoom;
		return MP_VERDICT_SERVE;
	case MP_CLASS_LOCAL:
		return MP_VERDICT_LOCAL;
	case MP_CLASS_REFUSED:
		break;
	}
	mp_command_refusal(found, error, MP_ERROR_BYTES);
	return MP_VERDICT_ERROR;
}

static bool is_own_key(struct mp_slice key)
{
	size_t len = sizeof(MP_MEMCACHED_OWN_PREFIX) - 1;

	return key.len >= len && memcmp(key.data, MP_MEMCACHED_OWN_PREFIX, len) == 0;
}

enum mp_verdict mp_classify_memcached(const struct mc_request *request,
				      struct mp_request_meta *meta, char *error)
{
	*meta = (struct mp_request_meta){.protocol = MP_MEMCACHED, .noreply = request->noreply};
	for (int i = 0; i < request->key_count; i++) {
		if (!is_own_key(request->keys[i]))
			continue;
		snprintf(error, MP_ERROR_BYTES, "muproxy: keys that begin with %s are its own",
			 MP_MEMCACHED_OWN_PREFIX);
		return MP_VERDICT_ERROR;
	}
	meta->translate = mc_needs_translation(request);
	meta->tokens = mc_has_tokens(request);
	meta->listing = request->verb == MC_LISTING;
	meta->part = mc_is_part(request);
	switch (mc_class_of(request)) {
	case MC_CLASS_READ:
		meta->class = MP_REQUEST_READ;
		return MP_VERDICT_SERVE;
	case MC_CLASS_WRITE:
		meta->class = MP_REQUEST_WRITE;
		meta->blind = true;   /* all of them, as they are logged (mc_decide.h) */
		meta->rewrite = true; /* in clean form, with an absolute deadline and one answer */
		return MP_VERDICT_SERVE;
	case MC_CLASS_DECIDED:
		meta->class = MP_REQUEST_CONDITIONAL;
		meta->blind = true;
		return MP_VERDICT_SERVE;
	case MC_CLASS_LOCAL:
		break;
	}
	return MP_VERDICT_LOCAL;
}

bool mp_parser_ready(struct mp_proxy *proxy)
{
	struct resp_limits limits;

	/* Clients' limits are their sessions': what is logged may be larger than what came. */
	resp_limits_lift(&limits);
	if (!proxy->resp)
		proxy->resp = resp_parser_new(&limits);
	return proxy->resp != NULL;
}

void mp_parser_spoilt(struct mp_proxy *proxy)
{
	resp_parser_free(proxy->resp);
	proxy->resp = NULL;
}

bool mp_reparse_redis(struct mp_proxy *proxy, struct mp_slice raw, struct resp_request *request)
{
	size_t used;

	if (!mp_parser_ready(proxy))
		return false;
	if (resp_parse(proxy->resp, raw.data, raw.len, &used, request) == RESP_DONE &&
	    used == raw.len && request->argc > 0 && !request->is_inline)
		return true;
	mp_parser_spoilt(proxy);
	return false;
}

bool mp_reparse_memcached(struct mp_proxy *proxy, struct mp_slice raw, struct mc_request *request)
{
	size_t used;

	if (!proxy->mc && !(proxy->mc = mc_parser_internal(&proxy->mc_limits)))
		return false;
	if (mc_parse(proxy->mc, raw.data, raw.len, &used, request) == MC_DONE && used == raw.len)
		return true;
	mc_parser_free(proxy->mc);
	proxy->mc = NULL;
	return false;
}
