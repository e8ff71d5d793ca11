"""The page in a browser: images in, cells, counts and corrections out. Streamlit's part is `app` alone."""
