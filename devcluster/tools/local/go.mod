module modelloop.dev/devcluster/tools/local

go 1.26.0
