/*
 * admin_wishes.h - what an operator may ask of a replica on its admin address:
 *   POST /transfer-leader[?to=ID]  of the leader: that another replica leads
 *   POST /drain[?end]              not to lead (again) while others can; 503 on /healthz
 *   POST /restore?replace          that its redis gets another replica's state
 *   POST /recover?accept-loss      see mu_accept_loss()
 *   POST /add?WHO                  of the leader: that replica WHO, an id or an address in
 *                                  URI encoding, becomes a member
 *   POST /remove?ID                of the leader: that replica ID is a member no more
 * 200 or, with a line that says why, 400 and 409 (Refused).
 */
#ifndef MUPROXY_ADMIN_WISHES_H
#define MUPROXY_ADMIN_WISHES_H

#include <event2/http.h>

#include "replica.h"

enum { ADMIN_WISHES = 6 };
struct admin_wish {
	struct replica *replica;
	unsigned index;
};

/* wish: room for them, as long as http serves. */
void admin_wishes_serve(struct admin_wish wish[ADMIN_WISHES], struct evhttp *http,
			struct replica *replica);

#endif
