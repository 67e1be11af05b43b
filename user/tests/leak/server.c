/* SPDX-License-Identifier: MIT */
#include "user/tests/leak/server.h"

#include "kernel/abi/fault.h"
#include "user/libos/ipc.h"
#include "user/libos/start.h"

static void answer(cap_t reply, uint64_t label)
{
    struct words words = {.word = {1, 2, 3}};

    ipc_reply(reply, INFO_LABEL(label), &words, NULL, 0);
}

static void fault(const struct server *server, uint64_t info, const struct words *words)
{
    if (info_label(info) == FAULT_PAGE) {
        sys_memory_supply(server->paged, words->word[0], server->page, 0);
        answer(0, FAULT_RESUME);
    } else {
        answer(0, FAULT_END);
    }
}

static void request(uint64_t info)
{
    cap_t saved;

    switch (info_label(info)) {
    case REQUEST_REPLY:
        answer(0, 0);
        break;
    case REQUEST_SAVE:
        saved = sys_reply_save(own.quota).second;
        answer(saved, 0);
        break;
    case REQUEST_LOSE:
        saved = sys_reply_save(own.quota).second;
        sys_cap_delete(saved);
        break;
    default:
        break;
    }
}

void serve(void *argument)
{
    static uint8_t room[MESSAGE_ROOM];
    struct server *server = argument;

    for (;;) {
        struct message message = {.receive_buffer = (uint64_t)room, .receive_size = sizeof(room)};
        struct words words = {.word = {0}};
        struct result got = ipc_receive(server->endpoint, 0, &words, &message, TIMEOUT_NONE);

        if (got.value < 0) {
            continue;
        }
        for (uint32_t i = 0; i < info_caps((uint64_t)got.value); i++) {
            sys_cap_delete(message.received_caps[i]);
        }
        if ((uint64_t)got.value & INFO_FAULT) {
            fault(server, (uint64_t)got.value, &words);
        } else {
            request((uint64_t)got.value);
        }
    }
}
