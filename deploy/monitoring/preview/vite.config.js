// PROMETHEUS is the address of a Prometheus, such as http://127.0.0.1:9090.
const proxy = { '/api': process.env.PROMETHEUS ?? 'http://127.0.0.1:9090' };

export default {
  esbuild: { jsx: 'automatic' },
  define: { 'process.env.NODE_ENV': '"production"', 'process.env': '{}', global: 'window' },
  build: { chunkSizeWarningLimit: 10000, sourcemap: false },
  preview: { host: '127.0.0.1', port: 4173, strictPort: true, proxy },
  server: { host: '127.0.0.1', fs: { allow: ['..'] }, proxy },
};
