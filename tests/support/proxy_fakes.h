/* proxy_fakes.h - what the parts of proxy_world.h need of each other. */
#ifndef TEST_PROXY_FAKES_H
#define TEST_PROXY_FAKES_H

#include "proxy_world.h"

/* A replica's consensus, which has handed out nothing yet. */
struct mu *fake_mu_open(unsigned id);
void fake_mu_reset(void);

/* Whose backends the next calls of mp_backend_..._open() make. */
extern unsigned fake_backend_opening;
/* Execute what is queued and tell of the replies. */
void fake_backend_deliver(unsigned id);
void fake_backend_reset(void);

#endif
