module spire/test/interop/pq

go 1.25
