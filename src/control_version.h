/*
 * control_version.h - the version of what muctl and a replica's admin port say to each
 * other: the JSON of /status that muctl looks at, and the wishes (admin_wishes.h). It
 * goes up when one of an older version would misunderstand.
 */
#ifndef MUPROXY_CONTROL_VERSION_H
#define MUPROXY_CONTROL_VERSION_H

#define CONTROL_VERSION 1

#endif
