// Who holds an advisory lock: rados_list_lockers and rbd_list_lockers answer in the same shape.
#pragma once
#include "runtime/list.h"

namespace cephkit {

// `call` takes (exclusive, tag, tag size, clients, clients size, cookies, cookies size, addresses, addresses
// size).
template <typename Call>
Object ListLockers(const char* syscall, Call call) {
    size_t sizes[4] = {256, 1024, 1024, 1024};
    for (;;) {
        std::vector<char> tag(sizes[0]), clients(sizes[1]), cookies(sizes[2]), addresses(sizes[3]);
        int exclusive = 0;
        const auto count = call(&exclusive, tag.data(), &sizes[0], clients.data(), &sizes[1], cookies.data(),
                                &sizes[2], addresses.data(), &sizes[3]);
        if (count == -ERANGE) continue;  // the sizes now say how much it takes
        // An object without the lock, and in librbd an image without lockers.
        if (count == -ENOENT) return {{"exclusive", false}, {"tag", ""}, {"lockers", Array{}}};
        Check(syscall, count);
        Array lockers;
        const char *client = clients.data(), *cookie = cookies.data(), *address = addresses.data();
        for (ssize_t i = 0; i < count; i++) {
            lockers.push_back(Object{{"client", client}, {"cookie", cookie}, {"address", address}});
            client += strlen(client) + 1;
            cookie += strlen(cookie) + 1;
            address += strlen(address) + 1;
        }
        // Of a lock that is held no more, RADOS tells how it was held last.
        return {{"exclusive", count > 0 && exclusive != 0},
                {"tag", count > 0 ? tag.data() : ""},
                {"lockers", std::move(lockers)}};
    }
}

}  // namespace cephkit
