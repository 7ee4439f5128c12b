/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef REUSEPORT_RENDEZVOUS_H
#define REUSEPORT_RENDEZVOUS_H

#define MOST_NODES 128 /* of the table; the verifier has to see an end of the loop over them */

#endif
