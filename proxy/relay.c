/* relay.c - see relay.h: what both ends share. */
#include "relay.h"

#include <stdio.h>

#include "state.h"

void mp_relay_init(struct mp_relay *relay)
{
	TAILQ_INIT(&relay->in.links);
	TAILQ_INIT(&relay->closed);
	TAILQ_INIT(&relay->out.relayed);
	TAILQ_INIT(&relay->out.patient);
}

bool mp_relay_open(struct mp_proxy *proxy, char *err, size_t err_bytes)
{
	struct mp_relay *relay = &proxy->relay;
	char why[256];

	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		const char *address = proxy->options.peer_address[id];

		if (!address || id == proxy->options.id || proxy->options.dial)
			continue;
		if (!mp_address_parse(address, &relay->out.address[id], why, sizeof(why))) {
			snprintf(err, err_bytes, "peer %u: %s", id, why);
			return false;
		}
	}
	return true;
}

void mp_proxy_link(struct mp_proxy *proxy, unsigned peer, int fd, bool dialled)
{
	if (dialled && proxy->transfer.restore.dialling >> peer & 1)
		mp_restore_dialled(proxy, peer, fd);
	else if (dialled)
		mp_relay_out_dialled(proxy, peer, fd);
	else if (fd >= 0)
		mp_relay_in_accept(proxy, fd, peer);
}

static void flush_links(struct mp_link_list *links)
{
	struct mp_link *link, *next;

	for (link = TAILQ_FIRST(links); link; link = next) {
		next = TAILQ_NEXT(link, place);
		mp_link_flush(link);
	}
}

void mp_relay_flush(struct mp_proxy *proxy)
{
	struct mp_relay *relay = &proxy->relay;
	struct mp_link *link;

	flush_links(&relay->in.links);
	if (relay->out.link)
		mp_link_flush(relay->out.link);
	while ((link = TAILQ_FIRST(&relay->closed))) {
		TAILQ_REMOVE(&relay->closed, link, place);
		mp_link_release(link);
	}
}

void mp_relay_close(struct mp_proxy *proxy)
{
	struct mp_relay *relay = &proxy->relay;
	struct mp_link *link;

	while ((link = TAILQ_FIRST(&relay->in.links)))
		mp_link_close(link, NULL);
	if (relay->out.link)
		mp_link_close(relay->out.link, NULL);
	mp_relay_flush(proxy);
}
